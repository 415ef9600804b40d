"""GSPO: group sequence policy optimization."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stapo_pl.core import tensors
from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.tensors import sequence_means
from stapo_pl.objectives.clipped import Clipped
from stapo_pl.objectives.kl import MAX_LOG_RATIO


@dataclass(kw_only=True)
class GSPO(Clipped):
    """The clipped loss with the ratio of a sequence, `s = exp(mean_t log rho_t)` (2507.18071).

    The ratio of token t is `sg(s) pi / sg(pi)`: it has the value of s and the gradient of the token
    (GSPO-token, equation 13). If all tokens of a response have the same advantage, the gradient is
    that of GSPO. Silenced tokens are left out of the mean.
    """

    zero_advantage_is_silent = True

    clip_low: float = 3e-4
    clip_high: float = 4e-4
    aggregation: tensors.Aggregation = "seq-mean-token-mean"

    def token_loss(
        self, current: TokenStatistics, tokens: Tokens
    ) -> tuple[Tensor, dict[str, Tensor]]:
        logp_T, sequence_T = current.logprobs_T, tokens.sequence_T
        taught_T = tokens.surrogate_weights_T != 0
        log_ratio_T = logp_T.detach() - tokens.old_logprobs_T
        mean_T = sequence_means(log_ratio_T, sequence_T, taught_T)[sequence_T].to(logp_T.dtype)
        ratio_T = (mean_T + logp_T - logp_T.detach()).clamp(max=MAX_LOG_RATIO).exp()
        clipped_T = ratio_T.clamp(1 - self.clip_low, 1 + self.clip_high)
        loss_T = torch.max(-ratio_T * tokens.advantages_T, -clipped_T * tokens.advantages_T)
        return loss_T, {
            "clip_fraction_low": (tokens.advantages_T < 0) & (ratio_T < 1 - self.clip_low),
            "clip_fraction_high": (tokens.advantages_T > 0) & (ratio_T > 1 + self.clip_high),
            "ratio_max": ratio_T,
        }
