"""REINFORCE: the policy gradient without a ratio."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stapo_pl.core import tensors
from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.objectives.base import Objective


@dataclass(kw_only=True)
class REINFORCE(Objective):
    """The loss `-mean_t A log pi`, without a ratio and without clipping (Williams, 1992).

    Its gradient is that of GRPO only in the first optimizer step of a rollout, where every ratio is
    1. GPG (2504.02546) is this loss with advantages of its own.
    """

    zero_advantage_is_silent = True

    aggregation: tensors.Aggregation = "token-mean"

    def token_loss(
        self, current: TokenStatistics, tokens: Tokens
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return -tokens.advantages_T * current.logprobs_T, {}
