"""OPD: on-policy distillation, which learns from a teacher's view of the policy's own responses."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from stapo_pl.core import tensors
from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.world import World
from stapo_pl.objectives.grpo import GRPO
from stapo_pl.objectives.token_advantages import TokenAdvantage


@dataclass(kw_only=True)
class Distillation(TokenAdvantage):
    """The advantage `log p_teacher - log p` of each token, alone or with that of the reward.

    Both are taken under the policy that made the rollout, at the temperature of the rollout. The
    mean of these advantages is the negative KL divergence of the policy from the teacher, so that
    the policy learns to sample what the teacher would (2306.13649, reverse KL).

    Args:
        reward_coef: the weight of the advantage that rewards give to the whole response. With 0,
            rewards teach nothing.

    Raises:
        ConfigError: the weight is negative.
    """

    needs_teacher = True

    reward_coef: float = 0.0

    def __post_init__(self) -> None:
        if not self.reward_coef >= 0:
            raise ConfigError(f"reward_coef must not be negative, got {self.reward_coef}")

    def advantages(self, tokens: Tokens, statistics: TokenStatistics, world: World) -> Tensor:
        of_teacher_T = tokens.teacher_logprobs_T - statistics.logprobs_T
        return of_teacher_T + self.reward_coef * tokens.advantages_T


@dataclass(kw_only=True)
class OPD(GRPO):
    """The clipped loss with the advantages of `Distillation`.

    The policy samples, and `model.teacher_path` names the model that it learns from. All sequences
    have a pass, because a teacher has something to say about each.

    Raises:
        ConfigError: there is dynamic sampling, which would discard groups by their rewards.
    """

    aggregation: tensors.Aggregation = "token-mean"
    token_advantage: TokenAdvantage | None = field(default_factory=Distillation)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rollout.dynamic_sampling is not None:
            raise ConfigError(
                "dynamic_sampling discards groups by their rewards, and a teacher teaches from all "
                "of them; set objective.dynamic_sampling=null"
            )
