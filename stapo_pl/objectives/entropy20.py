"""Learning from the forking tokens only."""

from __future__ import annotations

from dataclasses import dataclass, field

from stapo_pl.objectives.dapo import DAPO
from stapo_pl.objectives.selections import StatisticsSource, TopEntropy


@dataclass(kw_only=True)
class Entropy20(DAPO):
    """DAPO on the tokens of highest entropy alone (2506.01939); see `TopEntropy`.

    Args:
        fraction: of the response tokens that are learned from.
        statistics: whose entropies: of the `current` policy or of the `behavior` policy.
    """

    fraction: float = 0.2
    statistics: StatisticsSource = "behavior"
    selection: TopEntropy = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.selection = TopEntropy(fraction=self.fraction, statistics=self.statistics)
