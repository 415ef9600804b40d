"""The README's first command, whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest

from support.places import ROOT

pytestmark = pytest.mark.alone


def test_the_main_job_learns_in_five_minutes(tmp_path):
    start = time.perf_counter()
    command = [sys.executable, "scripts/fit.py", "objective=stapo", f"run.logs={tmp_path}"]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    minutes = (time.perf_counter() - start) / 60
    assert result.returncode == 0, result.stderr
    print(result.stdout)
    before, after = re.search(r"val/accuracy_greedy +([\d.]+)% +([\d.]+)%", result.stdout).groups()
    assert 30 <= float(before) <= 60 and float(after) >= 90
    mean_silenced = re.search(r"policy/silenced_fraction.* ([\d.]+)%\n", result.stdout)[1]
    assert 0.01 <= float(mean_silenced) <= 0.5
    assert minutes < 8, f"{minutes:.1f} min"  # under 5 on an idle machine with two cores
