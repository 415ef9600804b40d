"""Dr. GRPO: GRPO done right."""

from __future__ import annotations

from dataclasses import dataclass, field

from stapo_pl.core import tensors
from stapo_pl.objectives.grpo import GRPO
from stapo_pl.rollout.rules import RolloutRules


def _rules() -> RolloutRules:
    return RolloutRules(advantage="dr_grpo")


@dataclass(kw_only=True)
class DrGRPO(GRPO):
    """GRPO that divides neither by the std of the group nor by the length of the response.

    Both divisions bias the gradient (2503.20783). The sum over a response is divided by the largest
    possible length instead, which is the same for all responses.
    """

    aggregation: tensors.Aggregation = "seq-mean-token-sum-norm"
    rollout: RolloutRules = field(default_factory=_rules)
