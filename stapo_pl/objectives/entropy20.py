"""Learning from the forking tokens only."""

from __future__ import annotations

from dataclasses import dataclass, field

from stapo_pl.objectives.dapo import DAPO
from stapo_pl.objectives.selections import Selection, TopEntropy


@dataclass(kw_only=True)
class Entropy20(DAPO):
    """DAPO on the tokens of highest entropy alone (2506.01939); see `TopEntropy`."""

    selection: Selection | None = field(default_factory=TopEntropy)
