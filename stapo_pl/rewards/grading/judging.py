"""Judges responses that come in one after another, while others are still being sampled."""

from __future__ import annotations

import pickle
import threading
import traceback
from collections import deque
from collections.abc import Callable
from multiprocessing import Pipe
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
# Seconds between two looks at how many have been judged.
_SHOW_EVERY = 0.1


class Judging:
    """Judges responses with one reward. `Grader.judging` makes it.

    A thread hands the responses to workers, so that whoever samples need not wait for anything. It
    takes little time, because it only waits for the workers. If the reward is `bounded`, there is
    no thread, and `add` judges at once.

    Args:
        reward: the reward.
        pool: the workers that judge, unless the reward is bounded.
        folder: the folder where a response is saved if the reward fails on it.
    """

    def __init__(self, reward: Reward, pool: WorkerPool, folder: Path) -> None:
        self.reward, self.pool, self.folder = reward, pool, folder
        self._pairs: dict[int, tuple[Response, Problem]] = {}
        self._queue: deque[int] = deque()
        self._scores: dict[int, Score] = {}
        self._deaths: dict[int, int] = {}
        self._start_deaths = 0
        self._is_closed = self._is_abandoned = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        if not reward.bounded:
            # The thread waits for this connection too, so that it hears of new responses.
            self._bell, self._rope = Pipe(duplex=False)
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def add(self, number: int, response: Response, problem: Problem) -> None:
        """Takes a response.

        Args:
            number: a number by which the score will be known.
            response: the response to judge.
            problem: the problem that it answers.

        Raises:
            RewardError: the reward raised an exception on this response or on an earlier one, or
                returned something that is no score.
            TrainingError: no worker could start.
        """
        self._pairs[number] = response, problem
        if not self.reward.bounded:
            self._raise_error()
            self._queue.append(number)
            self._rope.send_bytes(b"new")
            return
        try:
            score = self.reward.score(response, problem)
        except Exception as error:
            raise self._refusal(number, traceback.format_exc()) from error
        self._scores[number] = checked(self.reward, response, problem, score, self.folder)

    def finish(self, progress: Callable[[int, int], None]) -> dict[int, Score]:
        """Waits for what is left, and returns the scores by the numbers of the responses.

        Args:
            progress: it is called with (number of judged responses, number of all responses).

        Raises:
            RewardError: see `add`.
            TrainingError: see `add`.
        """
        self._is_closed = True
        if self._thread is not None:
            self._rope.send_bytes(b"end")
            while self._thread.is_alive():
                self._thread.join(_SHOW_EVERY)
                progress(len(self._scores), len(self._pairs))
            self._end()
            self._raise_error()
        return self._scores

    def abandon(self) -> None:
        """Ends the thread, whatever has not been judged."""
        if self._thread is not None:
            self._is_abandoned = True
            self._rope.send_bytes(b"end")
            self._thread.join()
            self._end()

    def _end(self) -> None:
        self._thread = None
        self._bell.close()
        self._rope.close()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        """Judges until all responses are there and judged."""
        try:
            while not self._is_closed or len(self._scores) < len(self._pairs):
                if self._is_abandoned:
                    return
                self._turn()
        except BaseException as error:
            self._error = error

    def _turn(self) -> None:
        """Gives responses to free workers, and takes the answers of those that have judged."""
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
        for worker in self.pool.answered(self._bell):
            item, answer = worker.item, worker.hear()
            if worker.is_lost:
                self._start_deaths += not worker.is_ready
                if self._start_deaths == _START_DEATHS:
                    answer = ("failed", f"the last one of {self._start_deaths} {answer[1]}")
            if answer[0] == "failed":
                raise TrainingError(f"a reward worker could not start: {answer[1]}")
            if item is not None:
                self._take(item, worker.is_fresh, *answer)
        while self._bell.poll():
            self._bell.recv_bytes()

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
