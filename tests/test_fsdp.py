"""Two processes that share one policy's shards train as one process does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import test_resume
import torch
import torch.distributed.checkpoint as dcp
from test_fit import FEW_PROBLEMS, SMALL, read_scalars

from stapo_pl.export import export
from stapo_pl.loading import load_policy

FIT = Path(__file__).parents[1] / "scripts" / "fit.py"
STEPS = 10
WORDS = (*SMALL, *FEW_PROBLEMS, "trainer.accelerator=cpu", f"trainer.max_epochs={STEPS // 2}")
WORDS += ("trainer.check_val_every_n_epoch=99", "task.validation_size=9")


def run(folder: Path, ranks: int, *words: str) -> Path:
    cut = (
        ("trainer=fsdp", "trainer.accumulate_grad_batches=2")
        if ranks == 2
        else ("trainer.accumulate_grad_batches=4",)
    )
    command = [sys.executable, FIT, *WORDS, *cut, f"trainer.devices={ranks}", *words]
    command += [f"run.logs={folder}", "run.name=run"]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    (newest,) = (folder / "run").iterdir()
    return newest


OTHERS = ["grpo", "dapo", "stapo_v1", "entropy20"]


@pytest.mark.parametrize(
    "objective", ["stapo", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_ten_steps_of_two_ranks_are_those_of_one(tmp_path, objective):
    file = tmp_path / "rollouts.pt"
    words = (f"objective={objective}", "sampler=recording.Recording", f"sampler.file={file}")
    # Adam divides the rounding of a small gradient by its size, and so makes it a large one.
    words += ("model.optimizer=SGD", "model.optimizer.lr=0.1", "objective.kl_coef=0.1")
    run(tmp_path / "recorded", 1, *words, "sampler.replay=false")
    curves = {
        ranks: read_scalars(run(tmp_path / str(ranks), ranks, *words, "sampler.replay=true"))
        for ranks in (1, 2)
    }
    for name in ("loss", "grad_norm", "silenced_fraction", "kl_reference"):
        name = f"policy/{name}"
        assert len(curves[1][name]) == STEPS
        expected = [(step, pytest.approx(v, rel=1e-6, abs=1e-6)) for step, v in curves[1][name]]
        assert curves[2][name] == expected, name


SHARDED = ("trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    result = test_resume.fit(folder, None, *SHARDED)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment", ["during a rollout", "between micro-batches", "while a checkpoint is written"]
)
def test_a_killed_sharded_run_resumes_to_the_last_bit(uninterrupted, tmp_path, moment):
    assert test_resume.fit(tmp_path, moment, *SHARDED).returncode == -signal.SIGKILL
    before = test_resume.losses(tmp_path)
    (tmp_path / "losses").unlink()
    assert test_resume.fit(tmp_path, None, *SHARDED, "ckpt_path=last").returncode == 0
    after = test_resume.losses(tmp_path)
    assert min(key[0] for key in after if key[0] != "validation") == "2"
    assert before | after == test_resume.losses(uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("end", ["raises", "dies"])
def test_a_rank_that_ends_takes_the_run_down(tmp_path, rank, end):
    start = time.monotonic()
    result = test_resume.fit(tmp_path, f"rank {rank} {end}", *SHARDED)
    assert result.returncode != 0 and time.monotonic() - start < 60
    if end == "raises":
        errors = [line for line in result.stderr.splitlines() if "rror" in line]
        assert errors[0] == f"error: rank {rank} gives up"


@pytest.mark.slow
def test_gradient_checkpointing_changes_nothing(tmp_path):
    file = tmp_path / "rollouts.pt"
    words = ("objective=stapo", "sampler=recording.Recording", f"sampler.file={file}")
    words += ("trainer.max_epochs=2",)
    run(tmp_path / "recorded", 1, *words, "sampler.replay=false")
    plain, checkpointed = (
        read_scalars(run(tmp_path / name, 2, *words, "sampler.replay=true", *more))
        for name, *more in (("plain",), ("kept", "model.gradient_checkpointing=true"))
    )
    assert plain["policy/grad_norm"] == checkpointed["policy/grad_norm"]


def test_weights_stay_fp32_where_passes_compute_in_bfloat16(tmp_path):
    folder = run(tmp_path, 2, "trainer.strategy.compute_dtype=bfloat16", "trainer.max_epochs=1")
    (checkpoint,) = folder.glob("checkpoints/*.ckpt")
    metadata = dcp.FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    kinds = {entry.properties.dtype for entry in metadata.values() if hasattr(entry, "properties")}
    assert kinds == {torch.float32}
    assert 0 < read_scalars(folder)["rollout/sampler_gap_max"][0][1] < 0.5


@pytest.mark.vllm
def test_vllm_samples_from_the_shards(tmp_path):
    words = ("sampler=vllm", "trainer.max_epochs=3", "model.max_sampler_gap=1e-4")
    words += ("model.on_sampler_gap=raise", "objective.entropy_coef=0.1")
    one, two = (read_scalars(run(tmp_path / str(n), n, *words)) for n in (1, 2))
    for name in ("reward/mean", "rollout/tokens", "policy/loss", "policy/grad_norm"):
        expected = [(step, pytest.approx(v, rel=2e-3, abs=1e-5)) for step, v in one[name]]
        assert two[name] == expected, name


def test_export_equals_the_trained_weights(uninterrupted, tmp_path):
    (checkpoint,) = (uninterrupted / "logs").glob("*/*/checkpoints/rollout-00003.ckpt")
    export(checkpoint, tmp_path / "exported")
    exported = dict(load_policy(str(tmp_path / "exported")).named_weights())
    start = dict(load_policy(str(uninterrupted / "model")).named_weights())
    state = {"state_dict": {f"policy.model.{k}": torch.zeros_like(w) for k, w in start.items()}}
    dcp.load(state, checkpoint_id=checkpoint, no_dist=True)
    for name, weight in exported.items():
        assert torch.equal(weight, state["state_dict"][f"policy.model.{name}"])
        assert not torch.equal(weight, start[name])
