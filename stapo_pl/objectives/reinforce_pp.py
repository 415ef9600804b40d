"""REINFORCE++: advantages that the whole rollout normalises."""

from __future__ import annotations

from dataclasses import dataclass, field

from stapo_pl.core import tensors
from stapo_pl.objectives.grpo import GRPO
from stapo_pl.rollout.rules import RolloutRules


def _rules() -> RolloutRules:
    return RolloutRules(advantage="reinforce_pp")


@dataclass(kw_only=True)
class ReinforcePP(GRPO):
    """The clipped loss with rewards that are whitened over all tokens of the rollout (2501.03262).

    Groups play no part. Where they do, `reinforce_pp_baseline` subtracts the mean of the group
    first. The paper takes a KL penalty off the reward of each token; here `kl_coef` adds a term to
    the loss instead.
    """

    aggregation: tensors.Aggregation = "token-mean"
    rollout: RolloutRules = field(default_factory=_rules)
