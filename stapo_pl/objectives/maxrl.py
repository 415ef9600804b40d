"""MaxRL: maximum likelihood reinforcement learning."""

from __future__ import annotations

from dataclasses import dataclass, field

from stapo_pl.core import tensors
from stapo_pl.objectives.grpo import GRPO
from stapo_pl.rollout.rules import RolloutRules


def _rules() -> RolloutRules:
    return RolloutRules(advantage="maxrl")


@dataclass(kw_only=True)
class MaxRL(GRPO):
    """The clipped loss with advantages divided by the mean reward of the group (2602.02710).

    The gradient is then that of the logarithm of the accuracy, as far as a group of this size can
    estimate it: a right answer weighs the more, the fewer there are.
    """

    aggregation: tensors.Aggregation = "token-mean"
    rollout: RolloutRules = field(default_factory=_rules)
