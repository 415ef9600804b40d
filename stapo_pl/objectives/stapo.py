"""Spurious-token-aware policy optimization."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from stapo_pl.objectives.justrl import JustRL
from stapo_pl.objectives.selections import S2T, StatisticsSource


@dataclass(kw_only=True)
class STAPO(JustRL):
    """JustRL whose selection silences spurious tokens (2602.15620); see `S2T`.

    The defaults are those of the paper's v4 and v5; `scope="all", quantile=0.8` gives v1 to v3.

    Args:
        tau_p: as in `S2T`: probability below which a token is rare.
        quantile: likewise: of the entropies, below which the policy is sure.
        scope: likewise: the tokens whose entropies that quantile is taken of.
        statistics: likewise: of which policy.
    """

    tau_p: float = 0.002
    quantile: float = 0.75
    scope: Literal["rare", "all"] = "rare"
    statistics: StatisticsSource = "current"
    selection: S2T = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.selection = S2T(
            tau_p=self.tau_p, quantile=self.quantile, scope=self.scope, statistics=self.statistics
        )
