"""GRPO: group relative policy optimization."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stapo_pl.core import tensors
from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.errors import ConfigError
from stapo_pl.objectives.clipped import Clipped
from stapo_pl.objectives.kl import clamped_log_ratio


@dataclass(kw_only=True)
class GRPO(Clipped):
    """The loss `-mean_i mean_t min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A)` (2402.03300).

    A is the advantage of token t in response i. The ratio rho is the token's probability under the
    current policy, divided by its probability under the policy that made the rollout.

    Args:
        clip_low: how far below 1 the ratio of a token with negative advantage may fall. Further
            down, the token has no gradient.
        clip_high: how far above 1 the ratio of a token with positive advantage may rise. Further
            up, the token has no gradient.
        dual_clip: the number c > 1 such that the loss of a token with negative advantage is at most
            `c |A|` (1912.09729). None sets no bound.

    Raises:
        ConfigError: a clip range or `dual_clip` is out of range.
    """

    zero_advantage_is_silent = True

    dual_clip: float | None = None
    aggregation: tensors.Aggregation = "seq-mean-token-mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dual_clip is not None and self.dual_clip <= 1:
            raise ConfigError(f"dual_clip must be greater than 1, got {self.dual_clip}")

    def token_loss(
        self, current: TokenStatistics, tokens: Tokens
    ) -> tuple[Tensor, dict[str, Tensor]]:
        ratio_T = clamped_log_ratio(current.logprobs_T, tokens.old_logprobs_T).exp()
        clipped_T = ratio_T.clamp(1 - self.clip_low, 1 + self.clip_high)
        # The larger loss wins. If the ratio has left the clip range in the direction that the
        # advantage asks for, that is the clipped loss, which has no gradient.
        loss_T = torch.max(-ratio_T * tokens.advantages_T, -clipped_T * tokens.advantages_T)
        positive_T, negative_T = tokens.advantages_T > 0, tokens.advantages_T < 0
        if self.dual_clip is not None:
            bound_T = -self.dual_clip * tokens.advantages_T
            loss_T = torch.where(negative_T, torch.min(loss_T, bound_T), loss_T)
        return loss_T, {
            "clip_fraction_low": negative_T & (ratio_T < 1 - self.clip_low),
            "clip_fraction_high": positive_T & (ratio_T > 1 + self.clip_high),
            "ratio_max": ratio_T,
        }
