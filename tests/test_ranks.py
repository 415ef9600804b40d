"""Two processes train as one does: the same prompts, seeds, weights and curves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_fit import FEW_PROBLEMS, SMALL, read_scalars

FIT = Path(__file__).parents[1] / "scripts" / "fit.py"
# An odd number of validation prompts, so that one rank has one more.
WORDS = (*SMALL, *FEW_PROBLEMS, "task.validation_size=9", "trainer.accelerator=cpu")


@pytest.mark.parametrize("objective, trainer", [("dapo", "ddp"), ("stapo", "fsdp")])
def test_the_curves_of_two_ranks_are_those_of_one(tmp_path, objective, trainer):
    curves = {}
    for ranks, cut in ((1, 4), (2, 2)):
        folder = tmp_path / str(ranks)
        words = [
            f"objective={objective}", *WORDS, f"trainer.accumulate_grad_batches={cut}",
            f"trainer.devices={ranks}", f"run.logs={folder}", "run.name=run",
            *([f"trainer={trainer}"] if ranks > 1 else []),
        ]  # fmt: skip
        command = [sys.executable, FIT, *words]
        result = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300)
        assert result.returncode == 0
        (run,) = (folder / "run").iterdir()  # one folder, whatever the number of ranks
        curves[ranks] = read_scalars(run)
    assert curves[1].keys() == curves[2].keys()
    for name, values in curves[1].items():
        if not name.startswith(("time/", "throughput/", "rollout/sampler_gap")):
            expected = [(step, pytest.approx(value, rel=2e-3, abs=1e-5)) for step, value in values]
            assert curves[2][name] == expected, name
