"""DPPO: a trust region of probabilities, where PPO has one of ratios."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from stapo_pl.core import tensors
from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.errors import ConfigError
from stapo_pl.objectives.base import Objective
from stapo_pl.objectives.kl import clamped_log_ratio


@dataclass(kw_only=True)
class _DPPO(Objective):
    """The loss `-mean_t A sg(min(rho, cap)) log pi` of the tokens inside a trust region
    (2602.04879).

    A token is outside if its divergence from the old policy is too large, and if the advantage asks
    to move further away. It then has no loss, and the mean still counts it.

    Args:
        bound_low: the largest divergence of a token whose advantage is not positive.
        bound_high: the largest divergence of a token whose advantage is positive.
        cap: the largest ratio that weighs a token.

    Raises:
        ConfigError: a bound is negative, or the cap is below 1.
    """

    zero_advantage_is_silent = True

    bound_low: float = 0.15
    bound_high: float = 0.15
    cap: float = 20.0
    aggregation: tensors.Aggregation = "token-mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("bound_low", 0), ("bound_high", 0), ("cap", 1)):
            if not getattr(self, name) >= least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")

    @abstractmethod
    def divergence(self, logprobs_T: Tensor, old_logprobs_T: Tensor) -> Tensor:
        """Returns how far each token [T] is from the old policy; it is at least 0."""

    def token_loss(
        self, current: TokenStatistics, tokens: Tokens
    ) -> tuple[Tensor, dict[str, Tensor]]:
        logp_T, old_T = current.logprobs_T.detach(), tokens.old_logprobs_T
        ratio_T = clamped_log_ratio(logp_T, old_T).exp()
        divergence_T = self.divergence(logp_T, old_T)
        positive_T = tokens.advantages_T > 0
        above_T = positive_T & (logp_T > old_T) & (divergence_T > self.bound_high)
        below_T = ~positive_T & (logp_T < old_T) & (divergence_T > self.bound_low)
        weight_T = ratio_T.clamp(max=self.cap).where(~(above_T | below_T), 0)
        return -weight_T * tokens.advantages_T * current.logprobs_T, {
            "clip_fraction_low": below_T,
            "clip_fraction_high": above_T,
            "ratio_max": ratio_T,
        }


class DPPOTV(_DPPO):
    """DPPO by total variation: the divergence is `|p - p_old|` (2602.04879)."""

    def divergence(self, logprobs_T: Tensor, old_logprobs_T: Tensor) -> Tensor:
        return (logprobs_T.exp() - old_logprobs_T.exp()).abs()


class DPPOKL(_DPPO):
    """DPPO by the KL divergence of the two-way choice between the token and all others
    (2602.04879):
    `p_old log(p_old / p) + (1 - p_old) log((1 - p_old) / (1 - p))`.
    """

    def divergence(self, logprobs_T: Tensor, old_logprobs_T: Tensor) -> Tensor:
        p_T, old_T = logprobs_T.exp(), old_logprobs_T.exp()
        # 1 - p is 0 for a certain token. A bound that small leaves the divergence large.
        least = torch.finfo(p_T.dtype).tiny
        rest_T, old_rest_T = (1 - p_T).clamp(min=least), (1 - old_T).clamp(min=least)
        return old_T * (old_logprobs_T - logprobs_T) + old_rest_T * (old_rest_T / rest_T).log()
