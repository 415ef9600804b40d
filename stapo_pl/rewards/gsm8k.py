"""GSM8K's rule: the number after the last `####`."""

from __future__ import annotations

import re
from decimal import Decimal

from stapo_pl.core.types import Problem, Response, Score
from stapo_pl.rewards.answers.typography import characters, plain
from stapo_pl.rewards.base import Reward

# A longer line is not taken for an answer: reading it would take time.
_MAX_CHARACTERS = 300
# A number in plain notation. A unit may follow it, but nothing that makes it another number, such
# as a digit, a fraction, a power or a time of day.
_NUMBER = re.compile(
    r"[\s*€£¥\\]*([-+]?)[\s€£¥\\]*((?:[0-9]{1,100}(?:,[0-9]{3}){0,33}(?:\.[0-9]{0,99})?|\.[0-9]{1,99}))"
    r"(?![0-9_^:]|[.,][0-9]|[eE][-+]?[0-9]|\s*/\s*[0-9])"
)
_SQUARED = re.compile(r"\^\{([0-9])\}")
# Commands and braces around a number that do not change it.
_WRAPPING = re.compile(r"\\(?:boxed|fbox|framebox|text|mbox|mathrm)(?![A-Za-z])|[{}]")
# A second number, or a word or sign that offers a second answer. A number in a unit (`m^2`, `CO2`)
# is no second number.
_SECOND = re.compile(
    r"(?<![A-Za-z^_{0-9])(?:[0-9][0-9,]*(?:\.[0-9]+)?|\.[0-9]+)|(?<![A-Za-z])or(?![A-Za-z])|\\pm",
    re.IGNORECASE,
)


class GSM8K(Reward):
    """1 if the number after the last `####` of the response equals the problem's, else 0.

    The solutions in GSM8K (2110.14168) end with such a line, `#### 72`. The rule ignores currency
    signs, thousands separators, asterisks (bold print) and a box, and also a unit or a full stop
    after the number. If the line holds a second number, there is no answer. The problem's answer
    may be a whole solution or just the number.
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
