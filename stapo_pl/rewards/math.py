r"""Mathematical equality of the last `\boxed{...}`."""

from __future__ import annotations

import logging
from collections.abc import Callable
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

# Longer answers are no answers, and take math-verify minutes.
_MAX_CHARACTERS = 2000


class Math(Reward):
    r"""1 if the last `\boxed{...}` equals the answer by math-verify, else 0.

    The answer may itself stand in a `\boxed{...}`. Some notation is written otherwise first
    (`notation.py`, `typography.py`); text that math-verify still cannot read is wrong, unless it
    is the answer's own. Numbers are equal if they are exactly so, or if one is a decimal of at
    least six significant digits that the other has been rounded or cut off to (`numeric.py`,
    `equality.py`). Values belong to their names (`assignments.py`), capital letters may be a name
    (`names.py`), an inequality is the set of what solves it (`inequalities.py`), and a plus-minus
    is two answers (`signs.py`). The base of `2516_8` may be left out, but not be another one.
    """

    def prepare(self) -> None:
        import math_verify  # heavy, and only needed where answers are judged

        # It warns that its own limits are off: a Grader's hold, in any thread.
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
    """Whether two answers that are written in one notation mean the same."""
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
        _tried(lambda pair=pair: equal(*pair), False)
        for pair in product(_readings(answer), _readings(extracted))
    )


def _readings(text: str) -> list:
    """What math-verify takes the text for.

    Each side stands in a box, to be read by one rule: as LaTeX and no more, or the last number in
    what is none would be the answer.
    """
    from math_verify import LatexExtractionConfig, parse

    box, rule = rf"\boxed{{{text}}}", [LatexExtractionConfig()]
    return _tried(lambda: parse(box, rule, parsing_timeout=None, raise_on_error=True), [])


def _tried(judge: Callable[[], Any], otherwise: Any) -> Any:
    """What a model writes may break a computer algebra system in any way: then it is wrong.

    Running out of memory is not the answer's being wrong, and passes through.
    """
    try:
        return judge()
    except MemoryError:
        raise
    except Exception:
        return otherwise
