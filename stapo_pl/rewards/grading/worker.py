"""The program of a worker process: it judges responses, and one of them may kill it.

`process.py` starts it as `python -m stapo_pl.rewards.grading.worker FD`, where FD is the file
descriptor of a pipe. It is a program of its own, neither a fork nor a `multiprocessing` child. So
any thread of any process can start it, and it shares only the pipe with that process.
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
    """Gets ready, and then judges one response after another.

    It first receives (sys.path, time limit in seconds, memory in bytes) and the rewards. It answers
    ("ready",); or ("failed", traceback), and then it ends.

    After that it receives pickled tuples (number of the reward, response, problem). It answers each
    with ("judged", score) or ("raised", traceback). If memory runs out, it answers ("full", why)
    and ends, because the memory may never be given back.
    """
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
        # The grader kills this process at the time limit. If the grader has died, the kernel does
        # it instead, so that no process goes on computing.
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
    """Lets this process grow by `size` bytes and no more. Sets no limit where the system does not
    tell the size of a process."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        limit = int(statm.read_text().split()[0]) * resource.getpagesize() + size
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


if __name__ == "__main__":
    with suppress(EOFError, ConnectionError):  # the grader is gone
        main(Connection(int(sys.argv[1])))
