r"""DAPO's rule: the end of the response, compared as normalised text."""

from __future__ import annotations

import re

from stapo_pl.core.types import Problem, Response, Score
from stapo_pl.rewards.answers.boxed import last_boxed
from stapo_pl.rewards.base import Reward

# What the policy says before its conclusion does not count, and cannot take time.
_LAST_CHARACTERS = 300

_ANSWER = re.compile(r"answer\s*:\s*(\S.*)", re.IGNORECASE)

# In this order: blanks are gone before words are looked for, so "\text{ cm}" becomes "\text{}".
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

    The rule of DAPO (2503.14476), with verl's normalisation. Only the last 300 characters count.
    The answer is the last complete `\boxed{...}` in them, as the paper asks for (2602.15620), else
    what follows the last `Answer:`, which verl looks for first. The problem's answer may itself
    stand in a `\boxed{...}`. DAPO's punishment of long responses is the objective's
    `overlong_buffer`.
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
    r"""The text of an answer without what does not change its meaning.

    The normalisation of Minerva (2206.14858, appendix D.1) that DAPO's rule uses: the right side
    of an equation, without blanks, units, dollar signs, text commands and thousands separators,
    and with braces around what a `\frac` or `\sqrt` takes.

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
