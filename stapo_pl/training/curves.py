"""The curves that are logged once an optimizer step, and those that are logged once a rollout."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from stapo_pl.core.batches import MiniBatch, Tokens, TokenStatistics
from stapo_pl.core.means import Means
from stapo_pl.objectives import Objective
from stapo_pl.training.events import Events, Phase, RolloutCollected, RolloutScored
from stapo_pl.training.gap import SamplerGap


class StepCurves:
    """Collects what tokens show in the present optimizer step.

    Args:
        objective: the loss, which returns the values of its curves with it.
        gap: the gap between sampler and policy, which is shown once a rollout.
    """

    def __init__(self, objective: Objective, gap: SamplerGap) -> None:
        self.objective, self.gap, self.means = objective, gap, Means()

    def part_of_loss(
        self, statistics: TokenStatistics, tokens: Tokens, behavior_T: Tensor | None
    ) -> Tensor:
        """Returns the part of the loss that some tokens add, and notes what they show.

        Args:
            statistics: the statistics of the tokens under the policy that is being updated.
            tokens: the tokens, with all that the objective needs.
            behavior_T: their log-probabilities under the policy that made the rollout. They are
                compared with the sampler's. None if this is not the first step of a rollout.
        """
        if behavior_T is not None:
            self.gap.note(behavior_T, tokens)
        loss, metrics = self.objective.loss(statistics, tokens)
        self.means.update({"loss": loss, **metrics}, tokens.curve_weights_T)
        return loss

    def left_out(
        self, mini_batch: MiniBatch, tokens: Tokens, statistics: TokenStatistics | None
    ) -> None:
        """Notes how many tokens have no pass with gradient.

        If they had one without gradient, all of them are shown, and none needs to stand for others.

        Args:
            mini_batch: the mini-batch of the present step.
            tokens: all its tokens on this rank. Those that are left out come last.
            statistics: their statistics under the policy that selections looked at.
        """
        left_out = sum(len(micro.tokens) for micro in mini_batch.left_out)
        cuts = [len(tokens) - left_out, left_out]
        is_left_out_T = torch.arange(len(tokens), device=tokens.sequence_T.device) >= cuts[0]
        self.means.update({"pruned_fraction": is_left_out_T})
        if self.objective.sees_all_tokens and mini_batch.left_out:
            known, rest = statistics.split(cuts)[1], tokens.split(cuts)[1]
            self.part_of_loss(known, rest, known.logprobs_T if mini_batch.step == 0 else None)


class RolloutCurves:
    """Collects the curves of the present rollout by listening for events."""

    def __init__(self, events: Events) -> None:
        self._metrics: dict[str, float] = {}
        self._begin = self._since = self._end = 0.0
        events.listen(RolloutCollected, self._collected)
        events.listen(Phase, self._phase)
        events.listen(RolloutScored, self._scored)

    def rollout_begins(self) -> None:
        """Notes the time at which a rollout begins."""
        self._begin = time.perf_counter()

    def batch_ends(self) -> None:
        """Notes the time at which a micro-batch ended.

        The time of the last one ends the updates. A validation may follow, and must not count.
        """
        self._end = time.perf_counter()

    def of_rollout(self) -> dict[str, float]:
        """Returns all curves of the rollout that ends. Times are in seconds.

        The throughput counts all time from the beginning of the rollout to the end of its last
        update, also time that is in no other curve, such as putting the sampler to sleep.
        """
        metrics = dict(self._metrics)
        metrics["time/update_s"] = self._end - self._since
        seconds = self._end - self._begin
        metrics["throughput/samples_per_s"] = metrics["rollout/samples"] / seconds
        metrics["throughput/tokens_per_s"] = metrics["rollout/tokens"] / seconds
        return metrics

    def _collected(self, event: RolloutCollected) -> None:
        self._metrics = event.metrics

    def _phase(self, event: Phase) -> None:
        if event.name == "score" and event.done == 0:
            self._since = time.perf_counter()

    def _scored(self, event: RolloutScored) -> None:
        now = time.perf_counter()
        self._metrics["time/score_s"] = now - self._since
        self._since = now
