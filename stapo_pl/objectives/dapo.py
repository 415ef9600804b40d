"""DAPO: decoupled clip and dynamic sampling policy optimization."""

from __future__ import annotations

from dataclasses import dataclass, field

from stapo_pl.objectives.justrl import JustRL
from stapo_pl.rollout.rules import DynamicSampling, RolloutRules


def _rules() -> RolloutRules:
    return RolloutRules(dynamic_sampling=DynamicSampling(), overlong_buffer=0.2)


@dataclass(kw_only=True)
class DAPO(JustRL):
    """JustRL with dynamic sampling and a soft overlong punishment (2503.14476).

    Dynamic sampling keeps only groups whose rewards differ, and samples until there are enough. The
    overlong punishment lowers the reward of a response that comes near the length limit.
    """

    rollout: RolloutRules = field(default_factory=_rules)
