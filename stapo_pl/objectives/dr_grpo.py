"""GRPO done right."""

from __future__ import annotations

from dataclasses import dataclass, field

from stapo_pl.core import tensors
from stapo_pl.objectives.grpo import GRPO
from stapo_pl.rollout.rules import RolloutRules


def _rules() -> RolloutRules:
    return RolloutRules(advantage="dr_grpo")


@dataclass(kw_only=True)
class DrGRPO(GRPO):
    """GRPO without the division by the group's std and by the response's length (2503.20783)."""

    aggregation: tensors.Aggregation = "seq-mean-token-sum-norm"
    rollout: RolloutRules = field(default_factory=_rules)
