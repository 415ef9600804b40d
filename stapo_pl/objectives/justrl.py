"""JustRL: the plain objective that STAPO and DAPO start from."""

from __future__ import annotations

from dataclasses import dataclass

from stapo_pl.core import tensors
from stapo_pl.objectives.grpo import GRPO


@dataclass(kw_only=True)
class JustRL(GRPO):
    """GRPO with a wider upper clip range, averaged over tokens (2512.16649).

    GRPO averages over the tokens of a response first and then over responses. Here every token of
    the mini-batch has the same weight.
    """

    clip_high: float = 0.28
    aggregation: tensors.Aggregation = "token-mean"
