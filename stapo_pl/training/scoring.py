"""What the policies say of a mini-batch before the policy is updated on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from stapo_pl.core.batches import MicroBatch, MiniBatch, Tokens, TokenStatistics
from stapo_pl.core.world import World
from stapo_pl.objectives import Objective

OldLogprobs = Literal["recompute", "sampler"]


class Passes(Protocol):
    """The forward passes of the policies; the module makes them."""

    @property
    def device(self) -> torch.device: ...

    dropout: bool
    """Whether passes with gradient drop activations."""

    def current(self, micro: MicroBatch) -> TokenStatistics:
        """Statistics of the policy that is being updated, with gradient."""

    def statistics(self, micro: MicroBatch) -> TokenStatistics:
        """The same without gradient and dropout."""

    def reference_statistics(self, micro: MicroBatch) -> TokenStatistics:
        """Statistics of the reference policy, without gradient."""


@dataclass
class Scorer:
    """Scores mini-batches, with as few passes as the objective allows."""

    objective: Objective
    passes: Passes
    old_logprobs: OldLogprobs
    """Whether the policy computes the old log-probabilities again, or the sampler's are taken."""
    epochs_per_rollout: int

    @property
    def device(self) -> torch.device:
        return self.passes.device

    def score(self, mini_batch: MiniBatch, is_first: bool) -> None:
        """Fills in the scores of a mini-batch whose rollout the present policy has made.

        Args:
            is_first: whether it is the rollout's first mini-batch.
        """
        mini_batch.behavior = self._behavior(mini_batch, is_first)
        if self.objective.needs_reference:
            for micro in mini_batch.micro_batches:
                statistics = self.passes.reference_statistics(micro)
                micro.tokens.reference_logprobs_T = statistics.logprobs_T
        if self.objective.token_advantage is not None:
            micros = mini_batch.micro_batches
            tokens = Tokens.cat([micro.tokens.to(self.device) for micro in micros])
            advantages_T = self.objective.token_advantage.advantages(
                tokens, mini_batch.behavior, World()
            )
            for micro, part in zip(micros, advantages_T.split(sizes(micros)), strict=True):
                micro.tokens.advantages_T = part

    def statistics(self, mini_batch: MiniBatch) -> TokenStatistics:
        """Statistics of a whole mini-batch under the policy as it is now, without gradient."""
        return TokenStatistics.cat(
            [self.passes.statistics(micro) for micro in mini_batch.micro_batches]
        )

    def behavior_logprobs(self, micro: MicroBatch, current: TokenStatistics) -> Tensor:
        """Log-probabilities under the policy that made the rollout, at the rollout's first step."""
        if self.old_logprobs == "recompute":
            return micro.tokens.old_logprobs_T
        if self.passes.dropout:
            # The sampler is compared with what it sampled from, which drops nothing.
            return self.passes.statistics(micro).logprobs_T
        return current.logprobs_T.detach()

    def _behavior(self, mini_batch: MiniBatch, is_first: bool) -> TokenStatistics | None:
        """Fills in old log-probabilities; returns statistics if anything needs them yet."""
        objective, micros = self.objective, mini_batch.micro_batches
        if self.old_logprobs == "sampler":
            for micro in micros:
                micro.tokens.old_logprobs_T = micro.tokens.sampler_logprobs_T
            # What selects by current statistics has a pass of its own in each later mini-batch.
            asked = is_first or not objective.needs_current_statistics
            asked &= objective.selection is not None
            asked |= objective.token_advantage is not None
            return self.statistics(mini_batch) if asked else None
        # The first update still sees the policy that made the rollout. Unless anything asks before
        # it, or it drops activations, its own forward pass serves as its mini-batch's scoring pass.
        asked = objective.needs_behavior_statistics or objective.correction is not None
        asked |= self.passes.dropout
        if is_first and not asked and self.epochs_per_rollout == 1:
            return None
        behavior = self.statistics(mini_batch)
        for micro, logprobs_T in zip(micros, behavior.logprobs_T.split(sizes(micros)), strict=True):
            micro.tokens.old_logprobs_T = logprobs_T
        return behavior


def sizes(micros: Sequence[MicroBatch]) -> list[int]:
    """Response tokens of each micro-batch."""
    return [len(micro.tokens) for micro in micros]
