"""Decoupled clip and dynamic sampling policy optimization."""

from __future__ import annotations

from dataclasses import dataclass, field

from stapo_pl.objectives.base import DynamicSampling
from stapo_pl.objectives.justrl import JustRL


@dataclass(kw_only=True)
class DAPO(JustRL):
    """JustRL with dynamic sampling and soft overlong punishment (2503.14476)."""

    dynamic_sampling: DynamicSampling | None = field(default_factory=DynamicSampling)
    overlong_buffer: float = 0.2
