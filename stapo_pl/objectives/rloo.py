"""RLOO: REINFORCE leave-one-out."""

from __future__ import annotations

from dataclasses import dataclass, field

from stapo_pl.core import tensors
from stapo_pl.objectives.reinforce import REINFORCE
from stapo_pl.rollout.rules import RolloutRules


def _rules() -> RolloutRules:
    return RolloutRules(advantage="rloo")


@dataclass(kw_only=True)
class RLOO(REINFORCE):
    """REINFORCE whose baseline is the mean reward of the other responses (2402.14740).

    A response is one action, so that the log-probabilities of its tokens are added up and not
    averaged.
    """

    aggregation: tensors.Aggregation = "seq-mean-token-sum"
    rollout: RolloutRules = field(default_factory=_rules)
