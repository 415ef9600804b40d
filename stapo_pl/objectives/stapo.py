"""STAPO: spurious-token-aware policy optimization."""

from __future__ import annotations

from dataclasses import dataclass, field

from stapo_pl.objectives.justrl import JustRL
from stapo_pl.objectives.rare_selections import S2T
from stapo_pl.objectives.selections import Selection


@dataclass(kw_only=True)
class STAPO(JustRL):
    """JustRL with a selection that silences spurious tokens (2602.15620); see `S2T`.

    The defaults follow v4 and v5 of the paper. For v1 to v3, use
    `STAPO(selection=S2T(scope="all", quantile=0.8))`.
    """

    selection: Selection | list[Selection] | None = field(default_factory=S2T)
