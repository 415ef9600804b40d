"""GSM8K's rule: the number after the last `####`."""

from __future__ import annotations

import re
from decimal import Decimal

from stapo_pl.problems import Problem
from stapo_pl.rewards.base import Response, Reward, Score

# Plain notation, of at most some 100 digits: more are no answer and would take time. What follows
# may be a unit, but nothing that makes it another number: a digit, a fraction, a power, a time.
_NUMBER = re.compile(
    r"[\s*€£\\]*([-+]?(?:[0-9][0-9,]{0,99}(?:\.[0-9]{0,99})?|\.[0-9]{1,99}))"
    r"(?![0-9_^:]|[.,][0-9]|[eE][-+]?[0-9]|\s*/\s*[0-9])"
)


class GSM8K(Reward):
    """1 if the number after the last `####` of the response equals the problem's, else 0.

    GSM8K (2110.14168) ends its solutions in such a line, `#### 72`. Currency signs, thousands
    separators and asterisks (bold print) do not count, nor does what follows, such as a unit or a
    full stop. The problem's answer may be a whole solution, or the number.
    """

    bounded = True

    def score(self, response: Response, problem: Problem) -> Score:
        _, mark, conclusion = response.text.rpartition("####")
        if not mark:
            return Score(0.0, False, None, "no ####")
        answer = _number(problem.answer.rpartition("####")[2])
        if answer is None:
            return Score(0.0, False, None, "the problem's answer is no number")
        number = _number(conclusion)
        if number is None:
            return Score(0.0, False, None, "no number after ####")
        correct = number == answer
        return Score(float(correct), correct, f"{number:f}", "equal" if correct else "not equal")


def _number(text: str) -> Decimal | None:
    match = _NUMBER.match(text.replace("$", ""))
    return match and Decimal(match[1].replace(",", ""))
