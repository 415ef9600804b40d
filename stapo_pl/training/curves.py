"""The curves that are logged once a rollout: rewards, lengths, and how long each phase took."""

from __future__ import annotations

import time

from stapo_pl.training.events import Events, Phase, RolloutCollected, RolloutScored


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
