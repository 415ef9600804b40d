"""Small evaluations in this process, by the command line's words, and killed ones."""

from __future__ import annotations

import time
from pathlib import Path

from stapo_pl.cli.evaluate import main
from stapo_pl.cli.grammar import EVALUATE, expand
from support.commands import Command
from support.places import CONFIGS

SMALL = (
    "benchmark=arithmetic", "benchmark.validation_size=12", "benchmark.samples=4",
    "data.max_new_tokens=96", "samples_per_write=24", "run.name=small",
    "data.grading.workers=1",
)  # fmt: skip


def evaluate(logs: Path, *words: str, sampler: str = "transformers") -> Path:
    """Runs the command; returns its folder."""
    words = (*SMALL, f"run.logs={logs}", f"sampler={sampler}", *words)
    main(expand(words, CONFIGS, EVALUATE), CONFIGS)
    return logs / "small"


def grade(folder: Path, *words: str) -> None:
    main(expand((f"grade={folder}", *words), CONFIGS, EVALUATE), CONFIGS)


def completions(folder: Path) -> dict[str, bytes]:
    """By file."""
    files = sorted(folder.rglob("completions-*.jsonl"))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def start(logs: Path, *words: str) -> Command:
    """The command, in a process of its own."""
    return Command("evaluate", *SMALL, f"run.logs={logs}", *words)


def killed_and_resumed(logs: Path, *words: str) -> Path:
    """An evaluation that SIGKILL ends when it has written something, and that then goes on."""
    run = start(logs, *words, "samples_per_write=10")
    file = logs / "small" / "arithmetic" / "T1-p1" / "completions-0.jsonl"
    while not file.exists() or file.read_bytes().count(b"\n") < 2:
        assert run.returncode is None
        time.sleep(0.01)
    run.kill()
    run.wait()
    with open(file, "ab") as torn:
        torn.write(b'{"problem": 11, "sam')
    whole = file.read_bytes().rpartition(b"\n")[0]
    assert whole.count(b"\n") < 48
    assert start(logs, *words).wait().returncode == 0
    assert file.read_bytes().startswith(whole)
    return logs / "small"
