"""OPO: the baseline of least variance."""

from __future__ import annotations

from dataclasses import dataclass, field

from stapo_pl.objectives.reinforce import REINFORCE
from stapo_pl.rollout.rules import RolloutRules


def _rules() -> RolloutRules:
    return RolloutRules(advantage="opo")


@dataclass(kw_only=True)
class OPO(REINFORCE):
    """REINFORCE whose baseline is the mean reward of the group, weighted by length (2505.23585).

    This is the baseline of least variance if the gradient of a response grows with its length. The
    paper makes one optimizer step with each rollout, which is
    `data.prompts_per_mini_batch` equal to `data.prompts_per_rollout`.
    """

    rollout: RolloutRules = field(default_factory=_rules)
