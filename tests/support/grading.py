"""Responses judged by a grader, and the processes that do it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from stapo_pl.core.types import Problem
from stapo_pl.rewards import Response, Score
from stapo_pl.rewards.grading.grader import Grader, Grading
from support.own_rewards import Obedient

LIMIT = 1.5


def graded(texts: list[str], folder: Path, reward=None, **settings) -> list[Score]:
    """Scores of responses to problems whose answer is `yes`."""
    reward = Obedient() if reward is None else reward
    grading = Grading(**({"workers": 2, "time_limit": LIMIT} | settings))
    with Grader([reward], grading, folder) as grader:
        return grade(grader, reward, texts)


def grade(grader: Grader, reward, texts: list[str]) -> list[Score]:
    problem = Problem([{"role": "user", "content": "?"}], "yes", place="made, row 1")
    return grader.grade(reward, [Response(text) for text in texts], [problem] * len(texts))


def children(pid: int | str = "self") -> set[int]:
    """Processes that a process has started and that still run."""
    found = set()
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        found |= {int(child) for child in file.read_text().split()}
    return {p for p in found if Path(f"/proc/{p}/stat").read_text().split()[2] != "Z"}


def commands() -> Iterator[bytes]:
    """The command lines of all processes."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            yield file.read_bytes()
