"""Judges responses in processes that can be killed, because a response may be hostile.

A response can make a computer algebra system run for ever or use all memory. No exception and no
timer inside the same process stops that reliably. So rewards judge responses in other processes,
the workers, and a worker is killed when its time is up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stapo_pl.core.types import Problem, Response, Score
from stapo_pl.rewards.base import Reward
from stapo_pl.rewards.grading.judging import Judging
from stapo_pl.rewards.grading.pool import WorkerPool
from stapo_pl.rewards.grading.settings import Grading
from stapo_pl.rewards.grading.verdicts import RewardError

__all__ = ["Grader", "Grading", "RewardError"]


class Grader:
    """Judges responses with rewards, whatever the responses contain.

    A response that cannot be judged gets the worst reward that there is. Its outcome is `timeout`
    if it took too long, and `error` if it took too much memory or killed its worker several times.
    A reward that is `bounded` needs no worker: it runs in the calling process.

    Use the grader in a `with` statement, or call `close` at the end.

    Args:
        rewards: every reward that `judging` will be called with.
        grading: the settings.
        folder: if a reward raises, the response is saved here.
        ranks: the number of ranks on this machine; each has its own grader.
    """

    def __init__(
        self, rewards: Sequence[Reward], grading: Grading, folder: Path, ranks: int = 1
    ) -> None:
        self.folder = folder
        self._pool = WorkerPool(rewards, grading, grading.count(ranks))
        self._lock = threading.Lock()

    def __enter__(self) -> Grader:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def start(self) -> None:
        """Starts the workers, and does not wait until they are ready."""
        self._pool.start()

    def close(self) -> None:
        self._pool.close()

    @contextmanager
    def judging(self, reward: Reward) -> Iterator[Judging]:
        r"""Judges responses as they come in, within a `with` statement.

        Args:
            reward: one of the rewards that the grader was made for.

        Example:
            >>> from stapo_pl.rewards import Exact
            >>> exact = Exact()
            >>> with Grader([exact], Grading(), Path()) as grader, grader.judging(exact) as judging:
            ...     judging.add(0, Response(r"\boxed{4}"), Problem([], answer="4"))
            ...     judging.add(1, Response(r"\boxed{5}"), Problem([], answer="4"))
            ...     scores = judging.finish(lambda done, total: None)
            >>> [scores[number].correct for number in (0, 1)]
            [True, False]
        """
        with self._lock:
            judging = Judging(reward, self._pool, self.folder)
            try:
                yield judging
            except BaseException:
                judging.abandon()
                self.close()  # else the next one would take the answers that are still due
                raise

    def grade(
        self,
        reward: Reward,
        responses: Sequence[Response],
        problems: Sequence[Problem],
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Score]:
        """Judges responses.

        Args:
            reward: one of the rewards that the grader was made for.
            responses: the responses to judge.
            problems: for each response, the problem that it answers.
            progress: it is called with (number of judged responses, number of all responses).

        Returns:
            One score for each response, in the order of the responses.

        Raises:
            RewardError: the reward raised an exception, or returned something that is no score.
            TrainingError: no worker could start.
        """
        with self.judging(reward) as judging:
            for number, pair in enumerate(zip(responses, problems, strict=True)):
                judging.add(number, *pair)
            scores = judging.finish(progress)
        return [scores[number] for number in range(len(responses))]
