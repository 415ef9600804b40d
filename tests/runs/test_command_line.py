"""The command line, started: one line for every mistake."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from support.places import FIT


def fit(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, FIT, *words], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    "word, message",
    [
        ("objectiv=stapo", "objectiv: no such key; did you mean objective?"),
        ("objective=stapoo", "did you mean stapo?"),
        ("trainer.max_epoch=3", "trainer.max_epoch: no such key; did you mean trainer.max_epochs?"),
        ("ckpt_path=last", "there is no checkpoint in"),
    ],
)
def test_a_mistake_is_named_in_one_line_without_a_traceback(word, message, tmp_path):
    start = time.perf_counter()
    result = fit(word, f"run.logs={tmp_path}")
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1], result.stderr
    assert "Traceback" not in result.stderr and not result.stdout
    assert time.perf_counter() - start < 20  # 10 s on an idle machine


def test_an_unwritable_logs_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    result = fit(f"run.logs={tmp_path / 'file'}")
    assert result.returncode == 2 and "cannot write there" in result.stderr.splitlines()[-1]


def test_print_config_shows_the_resolved_tree(tmp_path):
    result = fit("objective=stapo", "objective.tau_p=0.001", "--print_config")
    assert result.returncode == 0 and "tau_p: 0.001" in result.stdout
