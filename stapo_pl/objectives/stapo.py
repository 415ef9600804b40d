"""Spurious-token-aware policy optimization."""

from __future__ import annotations

from dataclasses import dataclass, field

from stapo_pl.objectives.justrl import JustRL
from stapo_pl.objectives.selections import S2T, Selection


@dataclass(kw_only=True)
class STAPO(JustRL):
    """JustRL whose selection silences spurious tokens (2602.15620); see `S2T`.

    The defaults are those of the paper's v4 and v5. Its v1 to v3 are
    `STAPO(selection=S2T(scope="all", quantile=0.8))`.
    """

    selection: Selection | None = field(default_factory=S2T)
