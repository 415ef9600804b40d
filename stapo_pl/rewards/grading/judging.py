"""Judges responses that come in one after another, while others are still being sampled."""

from __future__ import annotations

import pickle
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path

from stapo_pl.core.errors import TrainingError
from stapo_pl.core.types import Outcome, Problem, Response, Score
from stapo_pl.rewards.base import Reward
from stapo_pl.rewards.grading.pool import WorkerPool
from stapo_pl.rewards.grading.verdicts import checked, refusal

# A response may be to blame when a worker dies, but the first deaths may have another cause. So a
# response is given up only after this many workers died on it, and a reward is given up only after
# this many workers died before they were ready.
_DEATHS, _START_DEATHS = 3, 4


class Judging:
    """Judges responses with one reward. `Grader.judging` makes it.

    Args:
        reward: the reward.
        pool: the workers that judge, unless the reward is `bounded`.
        folder: the folder where a response is saved if the reward fails on it.
    """

    def __init__(self, reward: Reward, pool: WorkerPool, folder: Path) -> None:
        self.reward, self.pool, self.folder = reward, pool, folder
        self._pairs: dict[int, tuple[Response, Problem]] = {}
        self._queue: deque[int] = deque()
        self._scores: dict[int, Score] = {}
        self._deaths: dict[int, int] = {}
        self._start_deaths = 0

    def add(self, number: int, response: Response, problem: Problem) -> None:
        """Takes a response.

        A bounded reward judges it at once. Otherwise it waits for a worker, and `turn` must be
        called now and then.

        Args:
            number: a number by which the score will be known.
            response: the response to judge.
            problem: the problem that it answers.

        Raises:
            RewardError: a bounded reward raised an exception, or returned something that is no
                score.
        """
        self._pairs[number] = response, problem
        if not self.reward.bounded:
            self._queue.append(number)
            return
        try:
            score = self.reward.score(response, problem)
        except Exception as error:
            raise self._refusal(number, traceback.format_exc()) from error
        self._scores[number] = checked(self.reward, response, problem, score, self.folder)

    def turn(self, waits: bool = False) -> None:
        """Gives responses to free workers, and takes the answers of those that have judged.

        Args:
            waits: whether it waits until a worker has an answer.

        Raises:
            RewardError: the reward raised an exception, or returned something that is no score.
            TrainingError: no worker could start.
        """
        if len(self._scores) == len(self._pairs):
            return
        self.pool.start()
        which = next(i for i, known in enumerate(self.pool.rewards) if known is self.reward)
        for worker in self.pool.free()[: len(self._queue)]:
            number = self._queue.popleft()
            try:
                request = pickle.dumps((which, *self._pairs[number]))
            except Exception as error:
                reason = f"what it is to judge cannot be sent to a worker: {error}"
                raise self._refusal(number, reason) from error
            worker.judge(number, request)
        for worker in self.pool.answered(waits):
            item, answer = worker.item, worker.hear()
            if worker.is_lost:
                self._start_deaths += not worker.is_ready
                if self._start_deaths == _START_DEATHS:
                    answer = ("failed", f"the last one of {self._start_deaths} {answer[1]}")
            if answer[0] == "failed":
                raise TrainingError(f"a reward worker could not start: {answer[1]}")
            if item is not None:
                self._take(item, worker.is_fresh, *answer)

    def finish(self, progress: Callable[[int, int], None]) -> dict[int, Score]:
        """Waits for what is left, and returns the scores by the numbers of the responses.

        Args:
            progress: it is called with (number of judged responses, number of all responses).

        Raises:
            RewardError: see `turn`.
            TrainingError: see `turn`.
        """
        while len(self._scores) < len(self._pairs):
            self.turn(waits=True)
            progress(len(self._scores), len(self._pairs))
        return self._scores

    def _take(self, item: int, is_fresh: bool, kind: str, *content) -> None:
        """Takes the answer of a worker on a response."""
        match kind, *content:
            case "judged", score:
                self._scores[item] = checked(self.reward, *self._pairs[item], score, self.folder)
            case "raised", reason:
                raise self._refusal(item, reason)
            case "late", reason:
                self._give_up(item, "timeout", reason)
            case "full", reason:
                # Earlier responses may have used up the memory, so a fresh worker tries again.
                if is_fresh:
                    self._give_up(item, "error", reason)
                else:
                    self._queue.appendleft(item)
            case "died", reason:
                self._deaths[item] = self._deaths.get(item, 0) + 1
                if self._deaths[item] < _DEATHS:
                    self._queue.appendleft(item)
                else:
                    self._give_up(item, "error", reason)

    def _give_up(self, item: int, outcome: Outcome, reason: str) -> None:
        worst, parts = self.reward.worst, self.reward.worst_components
        self._scores[item] = Score(worst, False, None, reason, parts, outcome)

    def _refusal(self, item: int, reason: str) -> Exception:
        return refusal(self.reward, *self._pairs[item], reason, self.folder)
