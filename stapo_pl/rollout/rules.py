"""What an objective asks of the rollout that it is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from stapo_pl.core.errors import ConfigError
from stapo_pl.rollout.advantages import Estimator


@dataclass(kw_only=True)
class DynamicSampling:
    """Refills the rollout until it has enough prompts with mixed groups (DAPO, 2503.14476).

    A group is mixed if the rewards of its responses differ, as the reward gave them: before the
    punishment of overlong responses, as in DAPO, which filters by accuracy.

    Args:
        max_rounds: rounds of sampling in a rollout, the first one counted.
        on_exhausted: what to do when they did not yield enough: `train` on what there is, or
            `raise`.

    Raises:
        ConfigError: less than one round, or an unknown `on_exhausted`.
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
    """How rewards are shaped, which groups are kept, and how advantages are made.

    An objective carries these rules; whoever makes the rollout is handed them, and needs to know
    nothing else of the objective.

    Args:
        advantage: group-relative advantage estimator, see `advantages.group_advantages`.
        dynamic_sampling: keeps only prompts whose responses differ in their rewards; None keeps
            all prompts.
        overlong_buffer: share of the response limit over which a growing punishment sets in, down
            to -1 at the limit (DAPO's soft overlong punishment); 0 punishes nothing.
        overlong_filtering: whether truncated responses are masked.

    Raises:
        ConfigError: an unknown estimator, or a share out of range.
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
