"""Where rewards run: in processes that can be killed, as responses are hostile.

A response can make a computer algebra system run for ever, or take all memory, and no exception or
timer inside a process stops that reliably. So a response is judged in a process of its own kind
(`worker.py`), which is killed when its time is up.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path

from stapo_pl.core.errors import ConfigError, TrainingError
from stapo_pl.core.types import Outcome, Problem, Response, Score
from stapo_pl.rewards.base import Reward

Progress = Callable[[int, int], None]

# Seconds for a worker to start; imports may be slow on a busy machine or a network drive.
_START_LIMIT = 180.0
# A response is given up when it was there at this many deaths of a worker, and a reward when so
# many workers died before they were ready: the first may have been somebody else's doing.
_DEATHS, _START_DEATHS = 3, 4
# Advantages square rewards in float32, which overflows beyond 1e19 and would make them all 0.
_LARGEST_REWARD = 1e15
_GIB = 2**30


@dataclass
class Grading:
    """How responses are judged.

    Args:
        workers: processes that judge at the same time, on each rank; None is one for each core of
            the rank's share, at most 8.
        time_limit: seconds for a response.
        memory_gib: memory for a response, beyond what the process takes at its start.

    Raises:
        ConfigError: a value out of range.
    """

    workers: int | None = None
    time_limit: float = 5.0
    memory_gib: float = 2.0

    def __post_init__(self) -> None:
        for name in ("workers", "time_limit", "memory_gib"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"grading.{name} must be positive, got {value}")

    def count(self, ranks: int) -> int:
        """Workers of each of `ranks` processes on this machine."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return self.workers or max(1, min(8, cores // ranks))


class RewardError(TrainingError):
    """A reward raised. The message has its traceback, and where the response was saved."""


class Grader:
    """Judges responses with a few rewards, in order, whatever they contain.

    A response that takes too long is scored the reward's worst, with outcome `timeout`; one that
    takes too much memory or kills its worker, again and again, likewise, with outcome `error`.
    Rewards that are `bounded` run where they are called. Start it with `with`, or end it with
    `close`.

    Args:
        rewards: all that will be asked for.
        folder: where the response is saved that a reward raised on.
        ranks: processes of this machine that have a grader each.
    """

    def __init__(
        self, rewards: Sequence[Reward], grading: Grading, folder: Path, ranks: int = 1
    ) -> None:
        self.rewards, self.grading, self.folder = list(rewards), grading, folder
        self._count = grading.count(ranks)
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Grader:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def start(self) -> None:
        """Starts the workers that are missing; they get ready on their own.

        There is one to spare: where one is killed, another is at hand.
        """
        self._workers = [worker for worker in self._workers if not worker.died_idle]
        if not all(reward.bounded for reward in self.rewards):
            while len(self._workers) <= self._count:
                self._workers.append(_Worker(self.rewards, self.grading))

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
        """One score a response, in order.

        Args:
            reward: one of those that the grader was made for.
            problems: what each response answers.
            progress: called with (responses done, responses in all).

        Raises:
            RewardError: the reward raised.
            TrainingError: no worker could start.
        """
        with self._lock:
            if not reward.bounded:
                try:
                    return self._grade(reward, responses, problems, progress)
                except BaseException:
                    self.close()  # what its workers still answer is not to be taken for the next
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
                item = queue.popleft()
                try:
                    request = pickle.dumps((number, responses[item], problems[item]))
                except Exception as error:
                    reason = f"what it is to judge cannot be sent to a worker: {error}"
                    raise self._refusal(reward, responses[item], problems[item], reason) from error
                worker.judge(item, request)
            for worker in self._wait():
                item, answer = worker.item, worker.hear()
                if worker.is_lost:
                    self._workers.remove(worker)
                    start_deaths += not worker.is_ready
                    if start_deaths == _START_DEATHS:
                        answer = ("failed", f"the last one of {start_deaths} {answer[1]}")
                match answer:
                    case ("judged", score):
                        scores[item] = self._checked(reward, responses[item], problems[item], score)
                    case ("raised", reason):
                        raise self._refusal(reward, responses[item], problems[item], reason)
                    case ("failed", reason):
                        raise TrainingError(f"a reward worker could not start: {reason}")
                    case ("late", reason) if item is not None:
                        give_up(item, "timeout", reason)
                    case ("full", reason) if worker.is_fresh:
                        give_up(item, "error", reason)
                    case ("full", _):  # what was judged before may have left no memory for it
                        queue.appendleft(item)
                    case ("died", reason) if item is not None:
                        deaths[item] += 1
                        if deaths[item] < _DEATHS:
                            queue.appendleft(item)
                        else:
                            give_up(item, "error", reason)
            progress(len(scores), len(responses))
        return [scores[i] for i in range(len(responses))]

    def _free(self) -> list[_Worker]:
        """Workers that may judge now; one is always to spare."""
        busy = sum(worker.item is not None for worker in self._workers)
        idle = [worker for worker in self._workers if worker.is_ready and worker.item is None]
        return idle[: self._count - busy]

    def _wait(self) -> list[_Worker]:
        """Waits until a worker has said something, or should have."""
        late = min(worker.deadline for worker in self._workers)
        connections = [worker.connection for worker in self._workers]
        heard = wait(connections, max(late - time.monotonic(), 0))
        now = time.monotonic()
        return [w for w in self._workers if w.connection in heard or now >= w.deadline]

    def _checked(self, reward: Reward, response: Response, problem: Problem, score: Score) -> Score:
        """The score as plain numbers and text: what a user's reward says may be anything."""
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


class _Worker:
    """One process, and the response that it has before it."""

    def __init__(self, rewards: list[Reward], grading: Grading) -> None:
        self.connection, theirs = Pipe()
        # -P: the working directory may hold files that are called like modules of Python's. A
        # session of its own: what the reward starts is killed with it, and Ctrl-C is not for it.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", f"{__package__}.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self._time_limit = grading.time_limit
        self.item: int | None = None
        """Number of the response that it judges."""
        self.is_ready = self.is_lost = False
        self.is_fresh = True
        """Whether it has judged nothing yet."""
        self._limit = _START_LIMIT
        self.deadline = time.monotonic() + self._limit
        """When it must have said something."""
        self.connection.send((sys.path, grading.time_limit, int(grading.memory_gib * _GIB)))
        self.connection.send(rewards)

    @property
    def died_idle(self) -> bool:
        """Whether somebody else has killed it: no response is to blame."""
        return self.is_ready and self.item is None and self._process.poll() is not None

    def judge(self, item: int, request: bytes) -> None:
        self.item, self.deadline = item, time.monotonic() + self._limit
        with suppress(ConnectionError):  # `hear` says so
            self.connection.send_bytes(request)

    def hear(self) -> tuple:
        """What it says (see `worker.main`); or ("died", why) or ("late", why). All but ("judged",
        score) and ("raised", traceback) mean that it is lost."""
        try:
            late = ("late", f"took over {self._limit:g} s")
            answer = self.connection.recv() if self.connection.poll() else late
        except (EOFError, ConnectionError):
            answer = ("died", "killed the process that judged it")
        if answer[0] not in ("ready", "judged", "raised"):
            self.kill()
        else:
            self.is_fresh = answer[0] == "ready"
            self.is_ready, self.item, self.deadline = True, None, math.inf
            self._limit = self._time_limit
        return answer

    def kill(self) -> None:
        self.is_lost = True
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.connection.close()
