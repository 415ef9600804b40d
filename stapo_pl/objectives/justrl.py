"""The plain recipe that STAPO builds on."""

from __future__ import annotations

from dataclasses import dataclass

from stapo_pl.core import tensors
from stapo_pl.objectives.grpo import GRPO


@dataclass(kw_only=True)
class JustRL(GRPO):
    """GRPO with clip-higher and token-level normalisation (2512.16649)."""

    clip_high: float = 0.28
    aggregation: tensors.Aggregation = "token-mean"
