"""The rules that an objective sets for the rollout that it is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from stapo_pl.core.errors import ConfigError
from stapo_pl.rollout.advantages import Estimator


@dataclass(kw_only=True)
class DynamicSampling:
    """Samples more prompts until the rollout has enough mixed groups (DAPO, 2503.14476).

    A group is all responses to one prompt. It is mixed if its rewards differ. Rewards are compared
    before the overlong punishment, as in DAPO, which filters groups by accuracy.

    Args:
        max_rounds: the largest number of rounds of sampling in a rollout. The first one counts.
        on_exhausted: what happens if there are too few mixed groups after the last round: `train`
            goes on with those that were found, and `raise` stops the run.

    Raises:
        ConfigError: `max_rounds` is less than 1, or `on_exhausted` is unknown.
    """

    max_rounds: int = 3
    on_exhausted: Literal["raise", "train"] = "train"

    def __post_init__(self) -> None:
        if self.max_rounds < 1:
            raise ConfigError(
                f"dynamic_sampling.max_rounds must be at least 1, got {self.max_rounds}"
            )
        if self.on_exhausted not in ("raise", "train"):
            raise ConfigError(
                f"dynamic_sampling.on_exhausted must be raise or train, got {self.on_exhausted}"
            )


@dataclass(kw_only=True)
class RolloutRules:
    """Says how rewards are shaped, which groups are kept, and how advantages are computed.

    An objective carries these rules. The code that makes the rollout is given only the rules, so it
    does not depend on objectives.

    Args:
        advantage: how the advantage of a response is computed from the rewards of its group, see
            `advantages.group_advantages`.
        dynamic_sampling: keeps only groups whose rewards differ, and samples more prompts until
            there are enough. None keeps all groups.
        overlong_buffer: the last part of the response limit, as a share of it, in which the reward
            falls with every token, by 1 at the limit (DAPO's soft overlong punishment). 0 punishes
            nothing.
        overlong_filtering: whether responses that the length limit ended are left out of the loss.

    Raises:
        ConfigError: the advantage is unknown, or `overlong_buffer` is out of range.
    """

    advantage: Estimator = "grpo"
    dynamic_sampling: DynamicSampling | None = None
    overlong_buffer: float = 0.0
    overlong_filtering: bool = False

    def __post_init__(self) -> None:
        if self.advantage not in get_args(Estimator):
            accepted = ", ".join(get_args(Estimator))
            raise ConfigError(f"advantage must be one of {accepted}, got {self.advantage}")
        if not 0 <= self.overlong_buffer < 1:
            raise ConfigError(f"overlong_buffer must lie in [0, 1), got {self.overlong_buffer}")
