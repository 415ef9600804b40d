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

from stapo_pl.policy.export import export
from stapo_pl.policy.loading import load_policy, load_tokenizer
from stapo_pl.policy.model import shipped_policy

FIT = Path(__file__).parents[1] / "scripts" / "fit.py"
STEPS = 10
WORDS = (*SMALL, *FEW_PROBLEMS, "trainer.accelerator=cpu", f"trainer.max_epochs={STEPS // 2}")
WORDS += ("trainer.check_val_every_n_epoch=99", "task.validation_size=9")


def start(folder: Path, ranks: int, *words: str) -> subprocess.CompletedProcess:
    """A run whose mini-batches are cut into four, whatever the number of ranks."""
    command = [sys.executable, FIT, *WORDS, f"trainer.accumulate_grad_batches={4 // ranks}"]
    command += [f"trainer.devices={ranks}", *(["trainer=fsdp"] if ranks > 1 else []), *words]
    command += [f"run.logs={folder}", "run.name=run"]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def run(folder: Path, ranks: int, *words: str) -> Path:
    result = start(folder, ranks, *words)
    assert result.returncode == 0, result.stderr
    (newest,) = (folder / "run").iterdir()  # one folder, whatever the number of ranks
    return newest


def assert_equal_curves(actual: Path, expected: Path, steps: int, tolerance: float = 1e-6) -> None:
    actual, expected = read_scalars(actual), read_scalars(expected)
    for name in ("loss", "grad_norm", "silenced_fraction", "kl_reference"):
        curve = expected[f"policy/{name}"]
        assert len(curve) == steps
        bounds = [(step, pytest.approx(v, rel=tolerance, abs=tolerance)) for step, v in curve]
        assert actual[f"policy/{name}"] == bounds, name


def recorded(folder: Path, *words: str) -> tuple[str, ...]:
    """Makes one run, and gives the words of others on the same rollouts."""
    sampler = ("sampler=recording.Recording", f"sampler.file={folder / 'rollouts.pt'}")
    # Adam divides the rounding of a small gradient by its size, and so makes it a large one.
    words += ("model.optimizer=SGD", "model.optimizer.lr=0.1", "objective.kl_coef=0.1", *sampler)
    run(folder / "recorded", 1, *words, "sampler.replay=false")
    return (*words, "sampler.replay=true")


OTHERS = ["grpo", "dapo", "stapo_v1", "entropy20"]


@pytest.mark.parametrize(
    "objective", ["stapo", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_ten_steps_of_two_ranks_are_those_of_one(tmp_path, objective):
    words = recorded(tmp_path, f"objective={objective}")
    one, two = (run(tmp_path / str(ranks), ranks, *words) for ranks in (1, 2))
    assert_equal_curves(two, one, STEPS)


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


@pytest.fixture(scope="module")
def four_steps(tmp_path_factory):
    """A run of one process, and the words of others on the same rollouts."""
    folder = tmp_path_factory.mktemp("four_steps")
    words = recorded(folder, "objective=stapo", "trainer.max_epochs=2")
    return run(folder / "one", 1, *words), words


OFFLOAD, COMPILE, PACK, CHECKPOINT = ALL = (
    "trainer.strategy.cpu_offload=true", "model.compile_layers=true", "model.packing=true",
    "model.gradient_checkpointing=true",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [(OFFLOAD,), (COMPILE,), (PACK,), (CHECKPOINT,), ALL],
    ids=["offload", "compile", "pack", "checkpoint", "all"],
)
def test_settings_that_save_memory_or_time_change_nothing_else(four_steps, tmp_path, settings):
    one, words = four_steps
    assert_equal_curves(run(tmp_path, 2, *words, *settings), one, 4)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [(2, 1), (1, 2)], ids=["fewer", "more"])
def test_a_sharded_run_goes_on_with_another_number_of_ranks(four_steps, tmp_path, ranks):
    one, words = four_steps
    run(tmp_path, ranks[0], *words, "trainer=fsdp", "trainer.max_epochs=1")
    resumed = run(tmp_path, ranks[1], *words, "trainer=fsdp", "ckpt_path=last")
    assert_equal_curves(resumed, one, 4)


def split_model(folder: Path, tied: bool) -> Path:
    """The shipped model in several files, its head tied to the embedding or not."""
    model = load_policy(str(shipped_policy())).model
    if not tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() * 0.9)
    model.save_pretrained(folder, max_shard_size="500KB")
    load_tokenizer(str(shipped_policy())).save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) > 1
    return folder


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_weights_dealt_out_to_ranks_are_those_of_the_files(tmp_path, tied):
    model = split_model(tmp_path / "model", tied)
    words = (f"model.path={model}", "model.optimizer=SGD", "model.optimizer.lr=0")
    folder = run(tmp_path / "logs", 2, *words, "trainer.max_epochs=1")
    (checkpoint,) = folder.glob("checkpoints/*.ckpt")
    export(checkpoint, tmp_path / "exported")
    weights = dict(load_policy(str(model)).named_weights())
    assert len(weights) == 36 - tied
    for name, weight in load_policy(str(tmp_path / "exported")).named_weights():
        assert torch.equal(weight, weights[name]), name


def test_ranks_that_read_other_data_are_refused_at_the_start(tmp_path):
    result = start(tmp_path, 2, "task=uneven.Uneven", "trainer=fsdp")
    assert result.returncode != 0
    errors = [line for line in result.stderr.splitlines() if "rror" in line]
    expected = "error: ranks differ in their number of training prompts: 64, 63; give all of them"
    assert errors[0].startswith(expected)
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.slow
def test_weights_stay_fp32_where_passes_compute_in_bfloat16(tmp_path):
    folder = run(tmp_path, 2, "trainer.precision=bf16-mixed", "trainer.max_epochs=1")
    (checkpoint,) = folder.glob("checkpoints/*.ckpt")
    metadata = dcp.FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    kinds = {entry.properties.dtype for entry in metadata.values() if hasattr(entry, "properties")}
    assert kinds == {torch.float32}
    assert 0 < read_scalars(folder)["rollout/sampler_gap_max"][0][1] < 0.5


@pytest.mark.vllm
def test_vllm_samples_from_the_shards(tmp_path):
    words = ("sampler=vllm", "trainer.max_epochs=3", "model.max_sampler_gap_mean=1e-5")
    words += ("model.on_sampler_gap=raise", "objective.entropy_coef=0.1")
    one, two = (read_scalars(run(tmp_path / str(n), n, *words)) for n in (1, 2))
    for name in ("reward/mean", "rollout/tokens", "policy/loss", "policy/grad_norm"):
        expected = [(step, pytest.approx(v, rel=2e-3, abs=1e-5)) for step, v in one[name]]
        assert two[name] == expected, name


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_checkpoint_goes_on_in_the_way_it_was_made(uninterrupted, tmp_path):
    result = test_resume.fit(uninterrupted, None, "ckpt_path=last")
    assert result.returncode == 2
    assert "the checkpoint is sharded; go on with trainer=fsdp" in result.stderr
    assert test_resume.fit(tmp_path, None, "trainer.max_epochs=1").returncode == 0
    result = test_resume.fit(tmp_path, None, "ckpt_path=last", *SHARDED)
    assert result.returncode == 2
    assert "the checkpoint is not sharded; go on without trainer=fsdp" in result.stderr
