r"""Exact match of the last `\boxed{...}`."""

from __future__ import annotations

from stapo_pl.rewards.base import Score
from stapo_pl.rewards.boxed import last_boxed


def exact_boxed(response: str, answer: str) -> Score:
    r"""Reward 1 if the last `\boxed{...}` is the answer, outer blanks aside, else 0."""
    extracted = last_boxed(response)
    correct = extracted is not None and extracted.strip() == answer.strip()
    return Score(reward=float(correct), correct=correct, extracted=extracted)
