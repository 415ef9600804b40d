"""Learns only from the tokens at which the policy is least certain."""

from __future__ import annotations

from dataclasses import dataclass, field

from stapo_pl.objectives.dapo import DAPO
from stapo_pl.objectives.selections import Selection, TopEntropy


@dataclass(kw_only=True)
class Entropy20(DAPO):
    """DAPO whose loss keeps only the 20 % of tokens with the highest entropy (2506.01939).

    See `TopEntropy`.
    """

    selection: Selection | list[Selection] | None = field(default_factory=TopEntropy)
