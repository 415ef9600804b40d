"""The worker processes of a grader."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait

from stapo_pl.rewards.base import Reward
from stapo_pl.rewards.grading.process import WorkerProcess
from stapo_pl.rewards.grading.settings import Grading


class WorkerPool:
    """Keeps as many workers running as are needed.

    Args:
        rewards: every reward that a worker may be asked for. If all of them are bounded, there are
            no workers.
        grading: the limits of the workers.
        count: the number of workers that may judge at a time. There is one more, which takes over
            when another is killed.
    """

    def __init__(self, rewards: Sequence[Reward], grading: Grading, count: int) -> None:
        self.rewards, self.grading, self.count = list(rewards), grading, count
        self._workers: list[WorkerProcess] = []

    def start(self) -> None:
        """Starts the workers that are missing, and does not wait until they are ready."""
        self._workers = [w for w in self._workers if not (w.died_idle or w.is_lost)]
        if not all(reward.bounded for reward in self.rewards):
            while len(self._workers) <= self.count:
                self._workers.append(WorkerProcess(self.rewards, self.grading))

    def close(self) -> None:
        for worker in self._workers:
            if not worker.is_lost:
                worker.kill()
        self._workers.clear()

    def free(self) -> list[WorkerProcess]:
        """Returns the workers that may judge now."""
        busy = sum(worker.item is not None for worker in self._workers)
        idle = [worker for worker in self._workers if worker.is_ready and worker.item is None]
        return idle[: self.count - busy]

    def answered(self, bell: Connection) -> list[WorkerProcess]:
        """Waits until some workers have answered, or must have answered, and returns these.

        Args:
            bell: a connection that ends the waiting when something comes over it.
        """
        late = min(worker.deadline for worker in self._workers)
        timeout = None if late == math.inf else max(late - time.monotonic(), 0)
        heard = wait([bell, *(worker.connection for worker in self._workers)], timeout)
        now = time.monotonic()
        return [w for w in self._workers if w.connection in heard or now >= w.deadline]
