"""KL-Cov: holds back the few tokens that lower the entropy most."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stapo_pl.core import tensors
from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.draws import largest
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.world import World
from stapo_pl.objectives.base import Objective
from stapo_pl.objectives.covariance import check_ratio, covariances, share_of
from stapo_pl.objectives.kl import clamped_log_ratio


@dataclass(kw_only=True)
class KLCov(Objective):
    """The loss `-mean_t rho A` without clipping, and a penalty on a few tokens (2505.22617).

    Those are the tokens with the largest covariance of advantage and log-probability in the
    mini-batch, see `covariances`. The loss of such a token is `-rho A + coef |log rho|`. A token
    without advantage may be one of them, so every sequence has a pass.

    Args:
        ratio: the share of tokens that have the penalty. It is rounded down to at least one token.
        coef: the weight of the penalty.

    Raises:
        ConfigError: the share lies outside (0, 1], or the weight is negative.
    """

    looks_at_all_tokens = True

    ratio: float = 2e-4
    coef: float = 1.0
    aggregation: tensors.Aggregation = "token-mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ratio(self.ratio)
        if not self.coef >= 0:
            raise ConfigError(f"coef must not be negative, got {self.coef}")

    def mark(self, tokens: Tokens, statistics: TokenStatistics | None, world: World) -> None:
        covariances_T, count = covariances(tokens, statistics, world)
        chosen = share_of(self.ratio, count)
        tokens.penalized_T = largest(covariances_T, chosen, tokens.random_T, world)

    def token_loss(
        self, current: TokenStatistics, tokens: Tokens
    ) -> tuple[Tensor, dict[str, Tensor]]:
        log_ratio_T = clamped_log_ratio(current.logprobs_T, tokens.old_logprobs_T)
        ratio_T = log_ratio_T.exp()
        penalty_T = (self.coef * log_ratio_T.abs()).where(tokens.penalized_T, 0)
        return penalty_T - ratio_T * tokens.advantages_T, {
            "penalized_fraction": tokens.penalized_T,
            "ratio_max": ratio_T,
        }
