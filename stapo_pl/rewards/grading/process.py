"""The grader's side of a worker process: it starts it, talks to it and kills it."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing import Pipe

from stapo_pl.rewards.base import Reward
from stapo_pl.rewards.grading.settings import Grading

# A worker may take this many seconds to start. Imports can be slow on a busy machine or a network
# drive.
_START_LIMIT = 180.0
_GIB = 2**30


class WorkerProcess:
    """One process that runs `worker.py`, and the response that it judges now.

    Args:
        rewards: the rewards that it may be asked for.
        grading: its limits.
    """

    def __init__(self, rewards: list[Reward], grading: Grading) -> None:
        self.connection, far_end = Pipe()
        # The option -P keeps the working directory out of sys.path: it may hold files that have the
        # names of Python's own modules. The process gets a session of its own, so that whatever a
        # reward starts is killed with it, and so that Ctrl-C does not reach it.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", f"{__package__}.worker", str(far_end.fileno())],
            pass_fds=[far_end.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        far_end.close()
        self._time_limit = grading.time_limit
        self.item: int | None = None
        """The number of the response that it judges now; None if it judges none."""
        self.is_ready = self.is_lost = False
        self.is_fresh = True
        """Whether it has not judged anything yet."""
        self._limit = _START_LIMIT
        self.deadline = time.monotonic() + self._limit
        """The time by which it must have answered."""
        self.connection.send((sys.path, grading.time_limit, int(grading.memory_gib * _GIB)))
        self.connection.send(rewards)

    @property
    def died_idle(self) -> bool:
        """Whether it ended while it judged nothing, so that no response is to blame."""
        return self.is_ready and self.item is None and self._process.poll() is not None

    def judge(self, item: int, request: bytes) -> None:
        """Sends it the response with number `item`."""
        self.item, self.deadline = item, time.monotonic() + self._limit
        with suppress(ConnectionError):  # `hear` reports that the process is gone
            self.connection.send_bytes(request)

    def hear(self) -> tuple:
        """Takes its answer.

        Returns:
            One of the answers that `worker.main` describes, or ("died", why) or ("late", why). The
            process is lost after any answer but ("ready",), ("judged", score) and ("raised",
            traceback).
        """
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
