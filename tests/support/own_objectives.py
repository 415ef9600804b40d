"""Objectives as a user may write them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from stapo_pl.core.tensors import sequence_means
from stapo_pl.objectives import CISPO, GRPO, Objective


@dataclass(kw_only=True)
class Sharpens(GRPO):
    """GRPO with a loss that looks at the entropy."""

    def token_loss(self, current, tokens):
        losses_T, metrics = super().token_loss(current, tokens)
        return losses_T + 0.01 * current.entropy_T, metrics


class ClipsAtAThird(CISPO):
    """CISPO whose upper bound is not the one that was asked for."""

    def token_loss(self, current, tokens):
        ratio_T = (current.logprobs_T - tokens.old_logprobs_T).detach().exp()
        weight_T = ratio_T.clamp(1 - self.clip_low, 4 / 3)
        return -weight_T * tokens.advantages_T * current.logprobs_T, {}


class LeaksThroughTheRatio(Objective):
    """A ratio of sequences that silenced tokens are a part of, with their gradient."""

    def token_loss(self, current, tokens):
        log_ratio_T = current.logprobs_T - tokens.old_logprobs_T
        ratio_T = sequence_means(log_ratio_T, tokens.sequence_T).exp()[tokens.sequence_T]
        return -ratio_T * tokens.advantages_T, {}

    def weighted_losses(self, current, tokens):
        losses_T, metrics = self.token_loss(current, tokens)
        return tokens.surrogate_weights_T * losses_T, metrics


class DependsOnTheCut(Objective):
    """Its loss is the mean of each micro-batch."""

    def token_loss(self, current, tokens):
        return -tokens.advantages_T * current.logprobs_T, {}

    def loss(self, current, tokens):
        losses_T, metrics = self.weighted_losses(current, tokens)
        return losses_T.mean(), metrics


class DependsOnTheOrder(Objective):
    """It learns more from the first sequence than from others."""

    def token_loss(self, current, tokens):
        return torch.where(tokens.sequence_T == 0, 1, 0.5) * current.logprobs_T, {}


class HasNoGradient(CISPO):
    """Nothing of its loss depends on the policy."""

    def token_loss(self, current, tokens):
        return super().token_loss(current.detach(), tokens)


class IsNotANumber(CISPO):
    """Its losses are not finite where the advantage is 0."""

    def token_loss(self, current, tokens):
        losses_T, metrics = super().token_loss(current, tokens)
        return losses_T / tokens.advantages_T, metrics


class NeedsANumber(CISPO):
    """It cannot be made without an argument."""

    def __init__(self, number: float) -> None:
        super().__init__(clip_high=number)
