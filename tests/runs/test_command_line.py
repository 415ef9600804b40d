"""The command line, started: one line for every mistake."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from support.commands import Command
from support.places import FIT


def check_mistake(result: subprocess.CompletedProcess, message: str) -> None:
    """One line names it, without a traceback."""
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1], result.stderr
    assert "Traceback" not in result.stderr and not result.stdout


@pytest.mark.parametrize(
    "word, message",
    [
        ("objectiv=stapo", "objectiv: no such key; did you mean objective?"),
        ("objective=stapoo", "did you mean stapo?"),
        ("ckpt_path=last", "there is no checkpoint in"),
    ],
)
def test_a_mistake_is_named_in_one_line_without_a_traceback(word, message, tmp_path):
    check_mistake(Command("fit", word, f"run.logs={tmp_path}").wait(), message)


def test_a_mistake_is_named_soon():
    """Of a key that is known only after all imports, from the start of Python."""
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, FIT, "trainer.max_epoch=3"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    check_mistake(result, "trainer.max_epoch: no such key; did you mean trainer.max_epochs?")
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Seconds of computing, which do not depend on what else the machine does.
    assert end.ru_utime - start.ru_utime + end.ru_stime - start.ru_stime < 14  # it takes 6


def test_an_unwritable_logs_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    result = Command("fit", f"run.logs={tmp_path / 'file'}").wait()
    assert result.returncode == 2 and "cannot write there" in result.stderr.splitlines()[-1]


def test_print_config_shows_the_resolved_tree():
    result = Command("fit", "objective=stapo", "objective.tau_p=0.001", "--print_config").wait()
    assert result.returncode == 0 and "tau_p: 0.001" in result.stdout
