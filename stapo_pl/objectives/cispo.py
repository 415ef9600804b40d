"""CISPO: clipped importance sampling policy optimization."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stapo_pl.core import tensors
from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.objectives.clipped import Clipped
from stapo_pl.objectives.kl import clamped_log_ratio


@dataclass(kw_only=True)
class CISPO(Clipped):
    """The loss `-mean_t sg(clip(rho, 1 - clip_low, 1 + clip_high)) A log pi` (2506.13585).

    It clips the weight of a token's gradient, and never the gradient itself; sg stops the gradient.
    `clip_low: 1` sets no lower bound, as in the paper.
    """

    zero_advantage_is_silent = True

    clip_high: float = 0.28
    aggregation: tensors.Aggregation = "token-mean"

    def token_loss(
        self, current: TokenStatistics, tokens: Tokens
    ) -> tuple[Tensor, dict[str, Tensor]]:
        ratio_T = clamped_log_ratio(current.logprobs_T, tokens.old_logprobs_T).exp().detach()
        weight_T = ratio_T.clamp(1 - self.clip_low, 1 + self.clip_high)
        return -weight_T * tokens.advantages_T * current.logprobs_T, {
            "clip_fraction_low": ratio_T < 1 - self.clip_low,
            "clip_fraction_high": ratio_T > 1 + self.clip_high,
            "ratio_max": ratio_T,
        }
