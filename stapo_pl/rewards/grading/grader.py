"""Judges responses in processes that can be killed, because a response may be hostile.

A response can make a computer algebra system run for ever or use all memory. No exception and no
timer inside the same process stops that reliably. So rewards judge responses in other processes,
the workers, and a worker is killed when its time is up.
"""

from __future__ import annotations

import json
import pickle
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path

from stapo_pl.core.errors import TrainingError
from stapo_pl.core.types import Outcome, Problem, Response, Score
from stapo_pl.rewards.base import Reward
from stapo_pl.rewards.grading.process import WorkerProcess
from stapo_pl.rewards.grading.settings import Grading

Progress = Callable[[int, int], None]

# A response may be to blame when a worker dies, but the first deaths may have another cause. So the
# grader gives a response up only after this many workers died on it, and it gives a reward up only
# after this many workers died before they were ready.
_DEATHS, _START_DEATHS = 3, 4
# Advantages square rewards in float32. That overflows beyond 1e19, and all advantages would be 0.
_LARGEST_REWARD = 1e15


class RewardError(TrainingError):
    """A reward raised an exception. The message holds the traceback and names the file in which the
    response was saved."""


class Grader:
    """Judges responses with rewards, whatever the responses contain.

    A response that cannot be judged gets the worst reward that there is. Its outcome is `timeout`
    if it took too long, and `error` if it took too much memory or killed its worker several times.
    A reward that is `bounded` needs no worker: it runs in the calling process.

    Use the grader in a `with` statement, or call `close` at the end.

    Args:
        rewards: every reward that `grade` will be called with.
        grading: the settings.
        folder: if a reward raises, the response is saved here.
        ranks: the number of ranks on this machine; each has its own grader.
    """

    def __init__(
        self, rewards: Sequence[Reward], grading: Grading, folder: Path, ranks: int = 1
    ) -> None:
        self.rewards, self.grading, self.folder = list(rewards), grading, folder
        self._count = grading.count(ranks)
        self._workers: list[WorkerProcess] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Grader:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def start(self) -> None:
        """Starts the workers that are missing, and does not wait until they are ready.

        There is one worker more than may judge at a time. It takes over when another is killed.
        """
        self._workers = [worker for worker in self._workers if not worker.died_idle]
        if not all(reward.bounded for reward in self.rewards):
            while len(self._workers) <= self._count:
                self._workers.append(WorkerProcess(self.rewards, self.grading))

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def grade(
        self,
        reward: Reward,
        responses: Sequence[Response],
        problems: Sequence[Problem],
        progress: Progress = lambda done, total: None,
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
        with self._lock:
            if not reward.bounded:
                try:
                    return self._grade(reward, responses, problems, progress)
                except BaseException:
                    self.close()  # else the next call would take the answers that are still due
                    raise
            scores = []
            for response, problem in zip(responses, problems, strict=True):
                try:
                    score = reward.score(response, problem)
                except Exception as error:
                    reason = traceback.format_exc()
                    raise self._refusal(reward, response, problem, reason) from error
                scores.append(self._checked(reward, response, problem, score))
            return scores

    def _grade(
        self,
        reward: Reward,
        responses: Sequence[Response],
        problems: Sequence[Problem],
        progress: Progress,
    ) -> list[Score]:
        number = next(i for i, known in enumerate(self.rewards) if known is reward)
        scores: dict[int, Score] = {}
        deaths, start_deaths = [0] * len(responses), 0
        queue = deque(range(len(responses)))

        def give_up(item: int, outcome: Outcome, reason: str) -> None:
            parts = reward.worst_components
            scores[item] = Score(reward.worst, False, None, reason, parts, outcome)

        while len(scores) < len(responses):
            self.start()
            for worker in self._free()[: len(queue)]:
                first = queue.popleft()
                try:
                    request = pickle.dumps((number, responses[first], problems[first]))
                except Exception as error:
                    reason = f"what it is to judge cannot be sent to a worker: {error}"
                    raise self._refusal(
                        reward, responses[first], problems[first], reason
                    ) from error
                worker.judge(first, request)
            for worker in self._wait():
                item, answer = worker.item, worker.hear()
                if worker.is_lost:
                    self._workers.remove(worker)
                    start_deaths += not worker.is_ready
                    if start_deaths == _START_DEATHS:
                        answer = ("failed", f"the last one of {start_deaths} {answer[1]}")
                match answer:
                    case ("judged", score) if item is not None:
                        scores[item] = self._checked(reward, responses[item], problems[item], score)
                    case ("raised", reason) if item is not None:
                        raise self._refusal(reward, responses[item], problems[item], reason)
                    case ("failed", reason):
                        raise TrainingError(f"a reward worker could not start: {reason}")
                    case ("late", reason) if item is not None:
                        give_up(item, "timeout", reason)
                    case ("full", reason) if item is not None and worker.is_fresh:
                        give_up(item, "error", reason)
                    case ("full", _) if item is not None:
                        # Earlier responses may have used up the memory, so a fresh worker tries.
                        queue.appendleft(item)
                    case ("died", reason) if item is not None:
                        deaths[item] += 1
                        if deaths[item] < _DEATHS:
                            queue.appendleft(item)
                        else:
                            give_up(item, "error", reason)
            progress(len(scores), len(responses))
        return [scores[i] for i in range(len(responses))]

    def _free(self) -> list[WorkerProcess]:
        """The workers that may judge now. One worker more than that is always there."""
        busy = sum(worker.item is not None for worker in self._workers)
        idle = [worker for worker in self._workers if worker.is_ready and worker.item is None]
        return idle[: self._count - busy]

    def _wait(self) -> list[WorkerProcess]:
        """Waits until some workers have answered, or must have answered, and returns these."""
        late = min(worker.deadline for worker in self._workers)
        connections = [worker.connection for worker in self._workers]
        heard = wait(connections, max(late - time.monotonic(), 0))
        now = time.monotonic()
        return [w for w in self._workers if w.connection in heard or now >= w.deadline]

    def _checked(self, reward: Reward, response: Response, problem: Problem, score: Score) -> Score:
        """The score with plain numbers and text. A user's reward may return anything at all.

        Raises:
            RewardError: it returned no score, or one that no advantage can be made of.
        """
        try:
            if isinstance(score.reward, str) or score.correct not in (True, False):
                raise TypeError
            plain = Score(
                float(score.reward),
                bool(score.correct),
                score.extracted,
                str(score.reason),
                {name: float(part) for name, part in score.components.items()},
            )
        except Exception as error:
            reason = f"it gave {score!r}, which is no score"
            raise self._refusal(reward, response, problem, reason) from error
        if not all(abs(x) <= _LARGEST_REWARD for x in (plain.reward, *plain.components.values())):
            reason = (
                f"it gave a reward of {score.reward}, expected a number and all of its components "
                f"to be finite and at most {_LARGEST_REWARD:g} in size"
            )
            raise self._refusal(reward, response, problem, reason)
        if not isinstance(plain.extracted, str | None):
            reason = f"it extracted {plain.extracted!r}, expected text or None"
            raise self._refusal(reward, response, problem, reason)
        return plain

    def _refusal(
        self, reward: Reward, response: Response, problem: Problem, reason: str
    ) -> RewardError:
        """The error to raise when a reward fails on a response. Saves the response."""
        file = self.folder / "failed_response.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {
            "reward": type(reward).__name__,
            "response": vars(response),
            "problem": vars(problem),
            "error": reason,
        }
        file.write_text(json.dumps(content, indent=1, default=repr))
        reason = reason.rstrip()
        *before, cause = reason.split("\n")
        message = (
            f"the reward {type(reward).__name__} failed on a response, saved in {file}; rewards "
            f"must take any text: {cause}"
        )
        return RewardError(f"{message}\n{reason}" if before else message)
