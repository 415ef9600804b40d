"""A process that judges responses, and may be lost to one of them.

`grader.py` starts it as `python -m stapo_pl.rewards.grading.worker FD`. It is a program of its own,
not a fork or a `multiprocessing` child: it works from any thread of any process, whatever that
process has running, and shares nothing with it but the pipe.
"""

from __future__ import annotations

import pickle
import resource
import signal
import sys
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path


def main(connection: Connection) -> None:
    """Answers ("ready",), or ("failed", traceback) and ends; then, to each pickled (number of the
    reward, response, problem), ("judged", score) or ("raised", traceback), or ("full", why) and
    ends: what took the memory may not give it back."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    sys.path[:], time_limit, memory = connection.recv()
    try:
        rewards = connection.recv()
        for reward in rewards:
            reward.prepare()
    except (Exception, SystemExit):
        connection.send(("failed", traceback.format_exc()))
        return
    _limit_memory(memory)
    connection.send(("ready",))
    while True:
        request = connection.recv_bytes()
        # The grader kills this process at the limit. Where it is no longer there to do so, the
        # kernel does, so that nothing is left computing.
        signal.setitimer(signal.ITIMER_REAL, 2 * time_limit)
        try:
            number, response, problem = pickle.loads(request)
            answer = pickle.dumps(("judged", rewards[number].score(response, problem)))
        except MemoryError:
            connection.send(("full", "out of memory"))
            return
        except (Exception, SystemExit):
            answer = pickle.dumps(("raised", traceback.format_exc()))
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send_bytes(answer)


def _limit_memory(size: int) -> None:
    """Lets the process grow by `size` bytes; where it cannot be seen how large it is, for ever."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        limit = int(statm.read_text().split()[0]) * resource.getpagesize() + size
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


if __name__ == "__main__":
    with suppress(EOFError, ConnectionError):  # the grader is gone
        main(Connection(int(sys.argv[1])))
