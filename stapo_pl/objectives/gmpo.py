"""GMPO: geometric-mean policy optimization."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stapo_pl.core import tensors
from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.tensors import sequence_means
from stapo_pl.objectives.clipped import Clipped
from stapo_pl.objectives.kl import clamped_log_ratio


@dataclass(kw_only=True)
class GMPO(Clipped):
    """The loss `-mean_i A exp(mean_t m_t)` with the geometric mean of clipped ratios (2507.20673).

    `m_t` is the log-ratio l of the token, clipped to [-clip_low, clip_high] where the advantage
    asks to leave this range: `m = s min(s l, s clip(l))` with the sign s of the advantage. Silenced
    tokens are left out of the mean.
    """

    zero_advantage_is_silent = True

    clip_low: float = 0.4
    clip_high: float = 0.4
    aggregation: tensors.Aggregation = "seq-mean-token-mean"

    def token_loss(
        self, current: TokenStatistics, tokens: Tokens
    ) -> tuple[Tensor, dict[str, Tensor]]:
        log_ratio_T = clamped_log_ratio(current.logprobs_T, tokens.old_logprobs_T)
        sign_T, sequence_T = tokens.advantages_T.sign(), tokens.sequence_T
        clipped_T = log_ratio_T.clamp(-self.clip_low, self.clip_high)
        inside_T = sign_T * torch.min(sign_T * log_ratio_T, sign_T * clipped_T)
        taught_T = tokens.surrogate_weights_T != 0
        mean_B = sequence_means(inside_T, sequence_T, taught_T)
        ratio_T = mean_B.exp()[sequence_T].to(log_ratio_T.dtype)
        return -tokens.advantages_T * ratio_T, {
            "clip_fraction_low": (sign_T < 0) & (log_ratio_T < -self.clip_low),
            "clip_fraction_high": (sign_T > 0) & (log_ratio_T > self.clip_high),
            "ratio_max": ratio_T,
        }
