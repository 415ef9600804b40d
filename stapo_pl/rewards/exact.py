r"""Exact match of the last `\boxed{...}`."""

from __future__ import annotations

from stapo_pl.core.types import Problem, Response, Score
from stapo_pl.rewards.answers.boxed import last_boxed
from stapo_pl.rewards.base import Reward


class Exact(Reward):
    r"""1 if the last `\boxed{...}` is the same text as the answer, else 0.

    Blanks at the beginning and the end do not count.
    """

    bounded = True

    def score(self, response: Response, problem: Problem) -> Score:
        extracted = last_boxed(response.text)
        correct = extracted is not None and extracted.strip() == problem.answer.strip()
        reason = r"no \boxed{}" if extracted is None else "the same text" if correct else "differs"
        return Score(float(correct), correct, extracted, reason)

    def can_match(self, problem: Problem) -> bool:
        return self.score(Response(rf"\boxed{{{problem.answer}}}"), problem).correct
