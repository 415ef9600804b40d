"""The README's first command, whole, and what another policy learns from the one that it makes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest

from support.places import ROOT

pytestmark = pytest.mark.alone


def run(script: str, *words: str) -> str:
    """What a script prints, with as many threads as it likes."""
    command = [sys.executable, f"scripts/{script}.py", *words]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    print(result.stdout)
    return result.stdout


def greedy(printed: str) -> tuple[float, float]:
    """The greedy accuracy before and after, in per cent."""
    before, after = re.search(r"val/accuracy_greedy +([\d.]+)% +([\d.]+)%", printed).groups()
    return float(before), float(after)


@pytest.fixture(scope="module")
def main_job(tmp_path_factory):
    """The folder of the logs, what the main job printed, and how many minutes it took."""
    logs, start = tmp_path_factory.mktemp("logs"), time.perf_counter()
    printed = run("fit", "objective=stapo", f"run.logs={logs}")
    return logs, printed, (time.perf_counter() - start) / 60


def test_the_main_job_learns_in_five_minutes(main_job):
    _, printed, minutes = main_job
    before, after = greedy(printed)
    assert 30 <= before <= 60 and after >= 90
    mean_silenced = re.search(r"policy/silenced_fraction.* ([\d.]+)%\n", printed)[1]
    assert 0.01 <= float(mean_silenced) <= 0.5
    assert minutes < 8, f"{minutes:.1f} min"  # under 5 on an idle machine with two cores


def test_what_it_learned_is_distilled_without_a_reward(main_job, tmp_path):
    logs, printed, _ = main_job
    run("export", "last", str(tmp_path / "teacher"), f"--logs={logs}")
    words = [f"model.teacher_path={tmp_path / 'teacher'}", "model.lr_schedule=linear"]
    words += ["trainer.max_epochs=40", "trainer.check_val_every_n_epoch=40"]
    distilled = run("fit", "objective=opd", *words, f"run.logs={tmp_path}")
    assert greedy(distilled)[1] >= greedy(printed)[1] - 3
