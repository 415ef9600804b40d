"""Scoring passes: the statistics of a mini-batch before the policy is updated on it."""

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
    """The forward passes of policy and reference policy. The module makes them."""

    @property
    def device(self) -> torch.device: ...

    dropout: bool
    """Whether passes with gradient use dropout."""

    def current(self, micro: MicroBatch) -> TokenStatistics:
        """Returns the statistics of the policy that is being updated, with gradient."""

    def statistics(self, micro: MicroBatch) -> TokenStatistics:
        """Returns the statistics of the same policy, without gradient and dropout."""

    def reference_statistics(self, micro: MicroBatch) -> TokenStatistics:
        """Returns the statistics of the reference policy, without gradient."""

    def teacher_statistics(self, micro: MicroBatch) -> TokenStatistics:
        """Returns the statistics of the teacher, without gradient."""


@dataclass
class Scorer:
    """Fills in what the objective needs of each mini-batch, with as few passes as possible."""

    objective: Objective
    """The objective, which says what it needs."""
    passes: Passes
    """The forward passes of the policies."""
    old_logprobs: OldLogprobs
    """`recompute`: a pass of the policy gives the old log-probabilities. `sampler`: those that the
    sampler reported are used."""
    epochs_per_rollout: int
    """The number of times that each mini-batch is visited."""

    @property
    def device(self) -> torch.device:
        return self.passes.device

    def score(self, mini_batch: MiniBatch, is_first: bool) -> None:
        """Fills in statistics, log-probabilities and token advantages of a mini-batch.

        The policy must still be the one that made the rollout.

        Args:
            mini_batch: the mini-batch. Its tokens are filled in.
            is_first: whether this is the first mini-batch of the rollout.
        """
        mini_batch.behavior = self._behavior(mini_batch, is_first)
        if self.objective.needs_reference:
            for micro in mini_batch.micro_batches:
                statistics = self.passes.reference_statistics(micro)
                micro.tokens.reference_logprobs_T = statistics.logprobs_T
        if self.objective.needs_teacher:
            for micro in mini_batch.micro_batches:
                micro.tokens.teacher_logprobs_T = self.passes.teacher_statistics(micro).logprobs_T
        # A token advantage may compare tokens of the whole mini-batch, so all are joined first.
        if self.objective.token_advantage is not None:
            micros = mini_batch.micro_batches
            tokens = Tokens.cat([micro.tokens.to(self.device) for micro in micros])
            advantages_T = self.objective.token_advantage.advantages(
                tokens, mini_batch.behavior, World()
            )
            for micro, part in zip(micros, advantages_T.split(sizes(micros)), strict=True):
                micro.tokens.advantages_T = part

    def statistics(self, mini_batch: MiniBatch) -> TokenStatistics:
        """Returns the statistics of a mini-batch under the present policy, without gradient.

        Tokens that were left out come last. If nothing looks at them, they have no
        pass, and their statistics are those of a certain token.
        """
        micros, left_out = mini_batch.micro_batches, mini_batch.left_out
        if self.objective.needs_all_statistics:
            return TokenStatistics.cat([self.passes.statistics(m) for m in [*micros, *left_out]])
        kept = [self.passes.statistics(micro) for micro in micros]
        certain = [TokenStatistics.of_certain(len(m.tokens), self.device) for m in left_out]
        return TokenStatistics.cat([*kept, *certain])

    def behavior_logprobs(self, micro: MicroBatch) -> Tensor | None:
        """Returns log-probabilities under the policy that made the rollout.

        This may be called only at the first step of a rollout, before the policy is updated. The
        result is None if no pass is needed here, because the coming pass with gradient gives them.
        """
        if self.old_logprobs == "recompute":
            return micro.tokens.old_logprobs_T
        # The sampler uses no dropout, so it is compared with a pass without dropout.
        return self.passes.statistics(micro).logprobs_T if self.passes.dropout else None

    def _behavior(self, mini_batch: MiniBatch, is_first: bool) -> TokenStatistics | None:
        """Fills in old log-probabilities, and returns the statistics if something needs them."""
        epochs, dropout = self.epochs_per_rollout, self.passes.dropout
        asked = is_scored(self.objective, self.old_logprobs, dropout, epochs, is_first)
        passed = [*mini_batch.micro_batches, *mini_batch.left_out]
        behavior = self.statistics(mini_batch) if asked else None
        if self.old_logprobs == "sampler":
            for micro in passed:
                micro.tokens.old_logprobs_T = micro.tokens.sampler_logprobs_T
        elif behavior is not None:
            parts = behavior.logprobs_T.split(sizes(passed))
            for micro, logprobs_T in zip(passed, parts, strict=True):
                micro.tokens.old_logprobs_T = logprobs_T
        return behavior


def is_scored(
    objective: Objective, old_logprobs: OldLogprobs, dropout: bool, epochs: int, is_first: bool
) -> bool:
    """Returns whether a mini-batch has a pass of the policy before the first update of a rollout.

    Args:
        objective: the objective, which asks for statistics.
        old_logprobs: where the old log-probabilities come from.
        dropout: whether passes with gradient use dropout.
        epochs: the number of times that each mini-batch is visited.
        is_first: whether this is the first mini-batch of the rollout.
    """
    if old_logprobs == "sampler":
        # A selection by current statistics has a pass of its own in each later mini-batch, so it
        # needs one here only for the first.
        sources = {selection.statistics for selection in objective.selections}
        asked = "behavior" in sources or objective.token_advantage is not None
        return asked or (is_first and objective.decides_by_statistics)
    # The first update still sees the policy that made the rollout, so its forward pass can serve as
    # the scoring pass of its mini-batch. That fails if something needs the statistics before this
    # pass, or if the pass uses dropout.
    asked = objective.needs_behavior_statistics or objective.correction is not None
    return asked or dropout or epochs > 1 or not is_first


def sizes(micros: Sequence[MicroBatch]) -> list[int]:
    """Returns the number of response tokens of each micro-batch."""
    return [len(micro.tokens) for micro in micros]
