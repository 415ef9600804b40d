"""Commands in processes of their own, which need not start Python first.

One process imports what the commands import, which takes longer than most of what tests let them
do, and is forked for each of them. Whoever tests the imports starts Python.
"""

from __future__ import annotations

import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only
from torch import multiprocessing

from support.places import ROOT, TESTS

FORKS = multiprocessing.get_context("forkserver")
PRELOADED = ["stapo_pl.cli.fit", "stapo_pl.cli.evaluate", "peft"]
FORKS.set_forkserver_preload(PRELOADED)


class Command:
    """A script of the project with its words, started.

    Args:
        script: its name in scripts/.
        words: of the command line.
        folder: in which it is started.
        group: of which process it is to be, a signal to which reaches all; None is its own.
        environment: variables that it has beside those of the tests.
    """

    def __init__(
        self,
        script: str,
        *words: object,
        folder: Path = ROOT,
        group: int = 0,
        **environment: str,
    ) -> None:
        self.words = [str(ROOT / "scripts" / f"{script}.py"), *map(str, words)]
        self._files = [Path(tempfile.mkstemp(suffix=f".{name}")[1]) for name in ("out", "err")]
        path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path, **environment}
        arguments = (self.words, str(folder), self._files, group, environment)
        self._process = FORKS.Process(target=_run, args=arguments)
        self._process.start()
        self.pid = self._process.pid

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._files[0].read_text()

    @property
    def returncode(self) -> int | None:
        """None as long as it runs, and the negative number of a signal that ended it."""
        return self._process.exitcode

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal to it and to all that it has started."""
        os.killpg(self.pid, number)

    def wait(self, timeout: float = 300) -> subprocess.CompletedProcess:
        """What it has printed, when it is at its end."""
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise subprocess.TimeoutExpired(self.words, timeout, *map(Path.read_text, self._files))
        printed = [file.read_text() for file in self._files]
        for file in self._files:
            file.unlink()
        return subprocess.CompletedProcess(self.words, self.returncode, *printed)


def run_ranks(
    script: str, ranks: int, *words: object, **environment: str
) -> subprocess.CompletedProcess:
    """Runs the ranks of a command as torchrun would start them; what the first one printed."""
    if ranks == 1:
        return Command(script, *words, **environment).wait()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    environment["NODE_RANK"] = "0"
    first = Command(script, *words, LOCAL_RANK="0", **environment)
    while os.getpgid(first.pid) != first.pid and first.returncode is None:
        time.sleep(0.001)
    others = [
        Command(script, *words, group=first.pid, LOCAL_RANK=str(rank), **environment)
        for rank in range(1, ranks)
    ]
    done = [command.wait() for command in (first, *others)]
    codes = {each.returncode for each in done}
    assert len(codes) == 1, [each.stderr for each in done]
    return done[0]


def fork(function: Callable[..., None], *arguments: object, ranks: int = 2) -> None:
    """Calls a function in processes of their own, each with its rank and the arguments."""
    multiprocessing.start_processes(function, arguments, ranks, start_method="forkserver")


def _run(
    words: list[str], folder: str, files: list[Path], group: int, environment: dict[str, str]
) -> None:
    """Becomes the command, in the process that was forked for it."""
    os.setpgid(0, group)
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    rank_zero_only.rank = int(environment.get("LOCAL_RANK", 0))  # read when Lightning is imported
    os.chdir(folder)
    sys.path[:0] = [entry for entry in environment["PYTHONPATH"].split(os.pathsep) if entry]
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
