"""A run that was killed anywhere continues as if nothing had happened, to the last bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from stapo_pl.policy.model import shipped_policy

FIT = Path(__file__).parents[1] / "scripts" / "fit.py"
ROLLOUTS, BATCHES = 4, 4
MOMENTS = [
    "during a rollout",
    "while a checkpoint is written",
    pytest.param("between micro-batches", marks=pytest.mark.slow),
    pytest.param("right after a checkpoint", marks=pytest.mark.slow),
    pytest.param("after step 1 of K", marks=pytest.mark.slow),  # where a checkpoint was asked for
]


def fit(
    folder: Path, moment: str | None, *words: str, **environment: str
) -> subprocess.CompletedProcess:
    """A small DAPO run (its cursor is a state) with dropout."""
    model = folder / "model"
    if not model.exists():
        shutil.copytree(shipped_policy(), model)
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.1}))
    record = {"class_path": "killing.Record", "init_args": {"file": str(folder / "losses")}}
    save = {
        "class_path": "stapo_pl.training.callbacks.RolloutCheckpoint",
        "init_args": {"every_n_rollouts": 1},
    }
    summary = {"class_path": "stapo_pl.training.callbacks.RunSummary"}
    kill = [{"class_path": "killing.Kill", "init_args": {"moment": moment}}] if moment else []
    steps = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"every_n_train_steps": 1},
    }
    asking = [steps] if moment == "after step 1 of K" else []
    config = folder / "config.yaml"
    callbacks = [summary, record, *asking, *kill, save]
    config.write_text(yaml.dump({"trainer": {"callbacks": callbacks}}))
    command = [
        sys.executable, FIT, f"--config={config}", "objective=dapo",
        "objective.dynamic_sampling.max_rounds=3", "data.prompts_per_rollout=8",
        "data.prompts_per_mini_batch=4", "data.group_size=4", "task.train_size=64",
        "task.validation_size=8", f"trainer.max_epochs={ROLLOUTS}",
        "trainer.accumulate_grad_batches=2", "trainer.check_val_every_n_epoch=1",
        f"run.logs={folder / 'logs'}", f"model.path={model}", *words,
    ]  # fmt: skip
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300,
        start_new_session=True,
    )  # fmt: skip


def losses(folder: Path) -> dict[tuple[str, str], list[str]]:
    """What was recorded of each micro-batch and validation; the later, if seen twice."""
    lines = [line.split() for line in (folder / "losses").read_text().splitlines()]
    return {(first, second): rest for first, second, *rest in lines}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert fit(folder, None).returncode == 0
    recorded = losses(folder)
    assert len([key for key in recorded if key[0] != "validation"]) == ROLLOUTS * BATCHES
    return folder


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_resumes_to_the_last_bit(uninterrupted, tmp_path, moment):
    assert fit(tmp_path, moment).returncode == -signal.SIGKILL
    before = losses(tmp_path)
    assert ("3", "0") not in before
    (tmp_path / "losses").unlink()
    assert fit(tmp_path, None, "ckpt_path=last").returncode == 0
    after = losses(tmp_path)
    resumed_at = "3" if moment == "right after a checkpoint" else "2"
    assert min(key[0] for key in after if key[0] != "validation") == resumed_at
    expected = losses(uninterrupted)
    assert before | after == expected
    assert {key: after[key] for key in after if key in before} == {
        key: before[key] for key in after if key in before
    }
    # In the folder where it began, and with the same weights at the end.
    (run,) = (tmp_path / "logs").glob("*/*")
    (original,) = (uninterrupted / "logs").glob("*/*")
    name = f"checkpoints/rollout-{ROLLOUTS - 1:05d}.ckpt"
    mine, theirs = (torch.load(r / name, weights_only=False) for r in (run, original))
    assert all(torch.equal(mine["state_dict"][k], v) for k, v in theirs["state_dict"].items())
    assert mine["RolloutDataModule"] == theirs["RolloutDataModule"]
    seen = [c["callbacks"]["RunSummary"]["seen"]["val/accuracy"] for c in (mine, theirs)]
    assert seen[0] == seen[1]


@pytest.mark.slow
def test_slurm_queues_a_job_again_that_then_goes_on(uninterrupted, tmp_path):
    """SIGUSR1 inside a rollout: the run ends after it, saved; `scontrol requeue` is called."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n')
    scontrol.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "42", "PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    first = fit(tmp_path, "SIGUSR1", **slurm)
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "called").read_text() == "requeue 42\n"
    before = losses(tmp_path)
    assert ("2", "3") in before and ("3", "0") not in before
    second = fit(tmp_path, None, **slurm, SLURM_RESTART_COUNT="1")
    assert second.returncode == 0, second.stderr
    assert losses(tmp_path) == losses(uninterrupted)
    assert len(list((tmp_path / "logs").glob("*/*"))) == 1


@pytest.mark.slow
def test_sigterm_ends_with_its_own_code_and_says_how_to_go_on(tmp_path):
    ended = fit(tmp_path, "SIGTERM")
    assert ended.returncode == 128 + signal.SIGTERM
    assert "stopped at step 4; the same command with ckpt_path=last goes on" in ended.stdout
    assert "Traceback" not in ended.stderr and ("2", "1") not in losses(tmp_path)


def test_ctrl_c_ends_cleanly(tmp_path):
    command = [
        sys.executable,
        FIT,
        f"run.logs={tmp_path}",
        "trainer.max_epochs=50",
        "data.prompts_per_rollout=32",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        # Started in the background of a shell, the tests themselves may ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    seen = ""
    while "rollouts =" not in seen:
        seen += process.stdout.readline()
    process.send_signal(signal.SIGINT)
    seen += process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert "stopped at step 0; there was no checkpoint yet" in seen
    assert "Traceback" not in seen
