r"""Mathematical equality of the last `\boxed{...}`."""

from __future__ import annotations

from math_verify import parse, verify

from stapo_pl.rewards.base import Score
from stapo_pl.rewards.boxed import last_boxed


def math_boxed(response: str, answer: str) -> Score:
    r"""Reward 1 if the last `\boxed{...}` equals the answer by math-verify, else 0."""
    extracted = last_boxed(response)
    correct = extracted is not None and _equal(extracted, last_boxed(answer) or answer)
    return Score(reward=float(correct), correct=correct, extracted=extracted)


def _equal(extracted: str, answer: str) -> bool:
    # Each side is put into a box of its own, so that both are read by the same rules.
    gold, given = (parse(rf"\boxed{{{text}}}") for text in (answer, extracted))
    return bool(verify(gold, given))
