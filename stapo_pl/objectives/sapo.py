"""SAPO: soft adaptive policy optimization."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stapo_pl.core import tensors
from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.errors import ConfigError
from stapo_pl.objectives.base import Objective
from stapo_pl.objectives.kl import clamped_log_ratio


@dataclass(kw_only=True)
class SAPO(Objective):
    """The loss `-mean_i mean_t A sigmoid(tau (rho - 1)) 4 / tau` (2511.20347).

    The sigmoid fades a token out as its ratio rho leaves 1, where GRPO cuts it off.

    Args:
        tau_positive: tau of tokens with a positive advantage. A larger one fades earlier.
        tau_negative: tau of the other tokens.

    Raises:
        ConfigError: a tau is not above 0.
    """

    zero_advantage_is_silent = True

    tau_positive: float = 1.0
    tau_negative: float = 1.05
    aggregation: tensors.Aggregation = "seq-mean-token-mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tau_positive", "tau_negative"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}")

    def token_loss(
        self, current: TokenStatistics, tokens: Tokens
    ) -> tuple[Tensor, dict[str, Tensor]]:
        ratio_T = clamped_log_ratio(current.logprobs_T, tokens.old_logprobs_T).exp()
        tau_T = torch.full_like(ratio_T, self.tau_negative)
        tau_T = tau_T.masked_fill(tokens.advantages_T > 0, self.tau_positive)
        gate_T = (tau_T * (ratio_T - 1)).sigmoid() * 4 / tau_T
        return -tokens.advantages_T * gate_T, {"ratio_max": ratio_T}
