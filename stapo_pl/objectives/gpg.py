"""GPG: group policy gradient."""

from __future__ import annotations

from dataclasses import dataclass, field

from stapo_pl.objectives.reinforce import REINFORCE
from stapo_pl.rollout.rules import RolloutRules


def _rules() -> RolloutRules:
    return RolloutRules(advantage="gpg")


@dataclass(kw_only=True)
class GPG(REINFORCE):
    """REINFORCE whose advantages are larger the fewer responses are rewarded (2504.02546).

    The deviation of a reward from the mean of its group is multiplied by the number of responses,
    and divided by the number of those whose reward is not 0.
    """

    rollout: RolloutRules = field(default_factory=_rules)
