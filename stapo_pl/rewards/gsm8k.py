"""GSM8K's rule: the number after the last `####`."""

from __future__ import annotations

import re
from decimal import Decimal

from stapo_pl.core.types import Problem, Response, Score
from stapo_pl.rewards.answers.typography import characters, plain
from stapo_pl.rewards.base import Reward

# A line that is longer is no answer, and would take time.
_MAX_CHARACTERS = 300
# Plain notation. What follows may be a unit, but nothing that makes it another number: a digit, a
# fraction, a power, a time.
_NUMBER = re.compile(
    r"[\s*€£¥\\]*([-+]?)[\s€£¥\\]*((?:[0-9]{1,100}(?:,[0-9]{3}){0,33}(?:\.[0-9]{0,99})?|\.[0-9]{1,99}))"
    r"(?![0-9_^:]|[.,][0-9]|[eE][-+]?[0-9]|\s*/\s*[0-9])"
)
_SQUARED = re.compile(r"\^\{([0-9])\}")
# What stands around a number, and changes nothing.
_WRAPPING = re.compile(r"\\(?:boxed|fbox|framebox|text|mbox|mathrm)(?![A-Za-z])|[{}]")
# Another number, unless it is a unit's (`m^2`, `CO2`), or what offers another answer.
_SECOND = re.compile(
    r"(?<![A-Za-z^_{0-9])(?:[0-9][0-9,]*(?:\.[0-9]+)?|\.[0-9]+)|(?<![A-Za-z])or(?![A-Za-z])|\\pm",
    re.IGNORECASE,
)


class GSM8K(Reward):
    """1 if the number after the last `####` of the response equals the problem's, else 0.

    GSM8K (2110.14168) ends its solutions in such a line, `#### 72`. Currency signs, thousands
    separators, asterisks (bold print) and a box do not count, nor does a unit or a full stop that
    follows. Another number on the line does: two answers are none. The problem's answer may be a
    whole solution, or the number.
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
            return Score(0.0, False, None, "no single number after ####")
        correct = number == answer
        return Score(float(correct), correct, f"{number:f}", "equal" if correct else "not equal")

    def can_match(self, problem: Problem) -> bool:
        return _number(problem.answer.rpartition("####")[2]) is not None


def _number(text: str) -> Decimal | None:
    line = text.lstrip()[: _MAX_CHARACTERS + 1].partition("\n")[0]
    if len(line) > _MAX_CHARACTERS:
        return None
    line = _SQUARED.sub(r"^\1", characters(line)).replace("{,}", ",").replace("$", "")
    line = plain(_WRAPPING.sub(" ", plain(line)))
    match = _NUMBER.match(line)
    if match is None:
        return None
    number = _decimal(match[2])
    others = [other[0] for other in _SECOND.finditer(line, match.end())]
    if not all(other[-1].isdigit() and _decimal(other) == number for other in others):
        return None
    return -number if match[1] == "-" else number


def _decimal(digits: str) -> Decimal:
    return Decimal(digits.replace(",", ""))
