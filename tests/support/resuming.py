"""Runs that are killed and go on, and what was recorded of them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path

import torch
import yaml

from stapo_pl.policy.model import shipped_policy
from support.commands import run_ranks

ROLLOUTS, BATCHES = 4, 4


def fit(
    folder: Path, moment: str | None, *words: str, ranks: int = 1, **environment: str
) -> subprocess.CompletedProcess:
    """A small DAPO run (its cursor is a state) with dropout, whose ranks are started together."""
    model = folder / "model"
    if not model.exists():
        shutil.copytree(shipped_policy(), model)
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.1}))
    record = {"class_path": "support.killing.Record", "init_args": {"file": str(folder / "losses")}}
    save = {
        "class_path": "stapo_pl.training.callbacks.RolloutCheckpoint",
        "init_args": {"every_n_rollouts": 1},
    }
    summary = {"class_path": "stapo_pl.training.callbacks.RunSummary"}
    kill = (
        [{"class_path": "support.killing.Kill", "init_args": {"moment": moment}}] if moment else []
    )
    steps = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"every_n_train_steps": 1},
    }
    asking = [steps] if moment == "after step 1 of K" else []
    config = folder / "config.yaml"
    callbacks = [summary, record, *asking, *kill, save]
    config.write_text(yaml.dump({"trainer": {"callbacks": callbacks}}))
    return run_ranks(
        "fit", ranks, f"--config={config}", "objective=dapo",
        "objective.dynamic_sampling.max_rounds=3",
        "data.prompts_per_rollout=8", "data.prompts_per_mini_batch=4", "data.group_size=4",
        "task.train_size=64", "task.validation_size=8", f"trainer.max_epochs={ROLLOUTS}",
        "trainer.accumulate_grad_batches=2", "trainer.check_val_every_n_epoch=2",
        f"run.logs={folder / 'logs'}", f"model.path={model}", *words, **environment,
    )  # fmt: skip


def losses(folder: Path) -> dict[tuple[str, str], list[str]]:
    """What was recorded of each micro-batch and validation; the later, if seen twice."""
    lines = [line.split() for line in (folder / "losses").read_text().splitlines()]
    return {(first, second): rest for first, second, *rest in lines}


def check_killed_and_resumed(uninterrupted: Path, tmp_path: Path, moment: str) -> None:
    """A run that is killed at a moment goes on as if nothing had happened, to the last bit."""
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
