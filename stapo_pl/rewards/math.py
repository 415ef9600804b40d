r"""Mathematical equality of the last `\boxed{...}`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

from stapo_pl.core.types import Problem, Response, Score
from stapo_pl.rewards.answers.assignments import pairs
from stapo_pl.rewards.answers.boxed import last_boxed
from stapo_pl.rewards.answers.inequalities import as_sets
from stapo_pl.rewards.answers.names import with_names
from stapo_pl.rewards.answers.notation import rewrite
from stapo_pl.rewards.answers.numeric import read_based, read_number, same_number
from stapo_pl.rewards.answers.signs import both_signs
from stapo_pl.rewards.base import Reward

# A longer text is not taken for an answer: math-verify would need minutes for it.
_MAX_CHARACTERS = 2000


class Math(Reward):
    r"""1 if the last `\boxed{...}` equals the answer by math-verify, else 0.

    The problem's answer may itself be in a `\boxed{...}`. Both answers are first rewritten into
    notation that math-verify reads (`answers/notation.py`, `answers/typography.py`). Text that it
    still cannot read is wrong, unless both texts are the same. These rules go beyond math-verify:

    - Two numbers are equal if they are exactly equal, or if one is a decimal of at least six
      significant digits and the other was rounded or cut off to it (`numeric.py`, `equality.py`).
    - A value belongs to its name, as in `x=1, y=2` (`assignments.py`).
    - Capital letters may be a name, such as that of a triangle (`names.py`).
    - An inequality stands for the set of its solutions (`inequalities.py`).
    - An answer with a plus-minus sign stands for two answers (`signs.py`).
    - The base of a number such as `2516_8` may be left out, but a different base is wrong.
    """

    def prepare(self) -> None:
        import math_verify  # slow to import, and needed only in processes that judge

        # It warns that its own time limits are switched off. The limits of the Grader replace them.
        logging.getLogger(math_verify.__name__).setLevel(logging.ERROR)
        _equal(r"\frac{1}{2}", "0.5")

    def score(self, response: Response, problem: Problem) -> Score:
        extracted = last_boxed(response.text)
        if extracted is None:
            return Score(0.0, False, None, r"no \boxed{}")
        if len(extracted) > _MAX_CHARACTERS:
            reason = f"an answer of {len(extracted)} characters, over {_MAX_CHARACTERS}"
            return Score(0.0, False, extracted[:_MAX_CHARACTERS], reason)
        given, answer = rewrite(extracted), rewrite(last_boxed(problem.answer) or problem.answer)
        if given == answer:
            return Score(1.0, True, extracted, "the same text")
        correct = _same(given, answer)
        return Score(float(correct), correct, extracted, "equal" if correct else "not equal")

    def can_match(self, problem: Problem) -> bool:
        answer = last_boxed(problem.answer) or problem.answer
        box = last_boxed(rf"\boxed{{{answer}}}")
        return bool(answer.strip()) and len(answer) <= _MAX_CHARACTERS and box == answer


def _same(given: str, answer: str) -> bool:
    """Whether two rewritten answers mean the same."""
    number, gold = read_number(given), read_number(answer)
    if number is not None and gold is not None:
        return same_number(number, gold)
    based, gold_based = read_based(given), read_based(answer)
    if based is not None and gold_based is not None and gold_based[1] is not None:
        return based in (gold_based, (gold_based[0], None))
    values = pairs(given, answer)
    if values is not None:
        return bool(values) and all(_same(*pair) for pair in values)
    given, answer = with_names(both_signs(given), both_signs(answer))
    return any(_equal(*pair) for pair in as_sets(given, answer))


def _equal(extracted: str, answer: str) -> bool:
    from stapo_pl.rewards.answers.equality import equal

    return any(
        _tried(partial(equal, gold, given), False)
        for gold, given in product(_readings(answer), _readings(extracted))
    )


def _readings(text: str) -> list:
    """The expressions that math-verify reads in the text.

    The text is put into a box and read as LaTeX only. Otherwise math-verify would take the last
    number in a text that is no LaTeX for the answer.
    """
    from math_verify import LatexExtractionConfig, parse

    box, rule = rf"\boxed{{{text}}}", [LatexExtractionConfig()]
    return _tried(lambda: parse(box, rule, parsing_timeout=None, raise_on_error=True), [])


def _tried(judge: Callable[[], Any], otherwise: Any) -> Any:
    """What `judge` returns; `otherwise` if it raises.

    A response may make the computer algebra system raise any exception. Such an answer is wrong.
    But an answer is not wrong because memory ran out, so that exception is passed on.
    """
    try:
        return judge()
    except MemoryError:
        raise
    except Exception:
        return otherwise
