r"""DAPO's rule: it compares the answer at the end of the response as normalised text."""

from __future__ import annotations

import re

from stapo_pl.core.types import Problem, Response, Score
from stapo_pl.rewards.answers.boxed import last_boxed
from stapo_pl.rewards.base import Reward

# Only so many characters at the end count, which also bounds the time that the rule takes.
_LAST_CHARACTERS = 300

_ANSWER = re.compile(r"answer\s*:\s*(\S.*)", re.IGNORECASE)

# The order matters: blanks are removed first, so that "\text{ cm}" becomes "\text{}".
_REPLACED = (
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    (r"\$", ""),
    (r"\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (r",\text{and}", ","),
    (r"\text{and}", ","),
    (r"\text{m}", r"\text{}"),
)
_REMOVED = (
    "square", "ways", "integers", "dollars", "mph", "inches", "hours", "km", "units", r"\ldots",
    "sue", "points", "feet", "minutes", "digits", "cents", "degrees", "cm", "gm", "pounds",
    "meters", "meals", "edges", "students", "childrentickets", "multiples", r"\text{s}",
    r"\text{.}", "\\text{\ns}", r"\text{}^2", r"\text{}^3", "\\text{\n}", r"\text{}",
    r"\mathrm{th}", r"^\circ", r"^{\circ}", r"\;", r",\!", "{,}", '"', r"\dots",
)  # fmt: skip


class DAPORule(Reward):
    r"""+1 if the answer at the end of the response is the problem's, as normalised text, else -1.

    This is the rule of DAPO (2503.14476), with verl's normalisation. Only the last 300 characters
    of the response count. The answer is the last complete `\boxed{...}` in them, as the STAPO
    paper (2602.15620) asks for. Without a box, it is what follows the last `Answer:`; verl looks
    for that first. The problem's answer may itself be in a `\boxed{...}`. DAPO also punishes long
    responses; here that is `objective.overlong_buffer`.
    """

    bounded = True
    worst = -1.0

    def score(self, response: Response, problem: Problem) -> Score:
        end = response.text[-_LAST_CHARACTERS:]
        extracted = last_boxed(end)
        if extracted is None:
            lines = _ANSWER.findall(end)
            if not lines:
                return Score(-1.0, False, None, r"no \boxed{} and no Answer: at the end")
            extracted = lines[-1]
        answer = last_boxed(problem.answer) or problem.answer
        correct = normalize(extracted) == normalize(answer)
        reason = "the same normalised text" if correct else "differs"
        return Score(1.0 if correct else -1.0, correct, extracted, reason)

    def can_match(self, problem: Problem) -> bool:
        return self.score(
            Response(rf"\boxed{{{last_boxed(problem.answer) or problem.answer}}}"), problem
        ).correct


def normalize(answer: str) -> str:
    r"""Removes from an answer what does not change its meaning.

    This is the normalisation of Minerva (2206.14858, appendix D.1), which DAPO's rule uses. Of an
    equation it keeps the right side. It removes blanks, units, dollar signs, text commands and
    thousands separators. It puts braces around the arguments of `\frac` and `\sqrt`.

    Example:
        >>> normalize(r"x = \frac12 \text{ cm}"), normalize("$1,000$ dollars")
        ('\\frac{1}{2}', '1000')
    """
    answer = answer.rpartition("=")[2]
    for old, new in _REPLACED:
        answer = answer.replace(old, new)
    for removed in _REMOVED:
        answer = answer.replace(removed, "")
    if answer.count("$") >= 2:
        answer = answer.split("$")[1]
    for command in ("text", "textbf", "overline"):
        answer = re.sub(rf"\\{command}\{{([^}}]*)\}}", r"\1", answer)
    answer = re.sub(r"\\boxed\{(.*)\}", r"\1", answer)
    answer = re.sub(r"frac([^{])(.)", r"frac{\1}{\2}", answer)
    answer = re.sub(r"sqrt([^{])", r"sqrt{\1}", answer)
    answer = answer.replace("$", "").strip()
    digits = answer.replace(",", "")
    return digits if digits.isdigit() else answer
