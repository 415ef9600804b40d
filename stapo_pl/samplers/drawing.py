"""Draws tokens so that a request's tokens do not depend on the batch that it is in."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from stapo_pl.core.types import Decoding


class Draw:
    """Draws one token from each row of logits.

    Args:
        decoding: the distribution that tokens are drawn from.
    """

    def __init__(self, decoding: Decoding) -> None:
        self.greedy, self.limit = decoding.temperature == 0, decoding.max_new_tokens
        self.warpers = LogitsProcessorList()
        if not self.greedy:
            if decoding.temperature != 1:
                self.warpers.append(TemperatureLogitsWarper(decoding.temperature))
            if decoding.top_k:
                self.warpers.append(TopKLogitsWarper(decoding.top_k))
            if decoding.top_p < 1:
                self.warpers.append(TopPLogitsWarper(decoding.top_p))

    def uniforms(self, seed: int) -> Tensor:
        """The random numbers of a request, [limit]: one for each token that it may get."""
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(self.limit, generator=generator, dtype=torch.float64)

    def __call__(self, logits_BV: Tensor, uniform_B: Tensor) -> tuple[Tensor, Tensor]:
        """Returns tokens [B] and their log-probabilities [B].

        A token is the one at which the cumulative distribution crosses the row's random number. At
        temperature 0 it is the most likely one.
        """
        # These warpers do not read the tokens so far.
        logp_BV = self.warpers(None, logits_BV.float()).log_softmax(-1)  # type: ignore[arg-type]
        if self.greedy:
            choice_B1 = logp_BV.argmax(-1, keepdim=True)
        else:
            cumulative_BV = logp_BV.double().exp().cumsum(-1)
            target_B1 = uniform_B[:, None] * cumulative_BV[:, -1:]
            # With right=True, tokens of probability 0 are never chosen.
            choice_B1 = torch.searchsorted(cumulative_BV, target_B1, right=True)
            choice_B1.clamp_(max=logp_BV.shape[-1] - 1)
        return choice_B1[:, 0], logp_BV.gather(-1, choice_B1)[:, 0]
