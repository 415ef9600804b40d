"""DRO: a quadratic penalty in place of clipping."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stapo_pl.core import tensors
from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.errors import ConfigError
from stapo_pl.objectives.base import Objective
from stapo_pl.objectives.kl import clamped_log_ratio


@dataclass(kw_only=True)
class DRO(Objective):
    """The loss `-mean_t (A log pi - beta / 2 (log rho)^2)`, which verl calls `dro`.

    The penalty holds tokens near the old policy whatever their advantage is. A token whose
    advantage is 0 has a gradient too, so every sequence has a pass.

    Args:
        beta: the weight of the penalty.

    Raises:
        ConfigError: beta is negative.
    """

    beta: float = 0.5
    aggregation: tensors.Aggregation = "token-mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.beta >= 0:
            raise ConfigError(f"beta must not be negative, got {self.beta}")

    def token_loss(
        self, current: TokenStatistics, tokens: Tokens
    ) -> tuple[Tensor, dict[str, Tensor]]:
        log_ratio_T = clamped_log_ratio(current.logprobs_T, tokens.old_logprobs_T)
        penalty_T = self.beta / 2 * log_ratio_T.square()
        loss_T = penalty_T - tokens.advantages_T * current.logprobs_T
        return loss_T, {"ratio_max": log_ratio_T.exp()}
