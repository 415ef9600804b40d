"""Two processes that share one policy's shards train as one process does."""

from __future__ import annotations

import re
import signal
import time

import pytest
import torch
import torch.distributed.checkpoint as dcp

from stapo_pl.policy.export import export
from stapo_pl.policy.loading import load_policy
from support import resuming
from support.fitting import read_scalars
from support.ranks import (
    ALL,
    CHECKPOINT,
    COMPILE,
    OFFLOAD,
    PACK,
    SAME,
    SHARDED,
    STEPS,
    assert_equal_curves,
    check_ten_steps,
    recorded,
    run,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("objective", ["grpo", "dapo", "stapo_v1", "entropy20"])
def test_ten_steps_of_two_ranks_are_those_of_one(tmp_path, objective):
    check_ten_steps(tmp_path, objective)


@pytest.mark.parametrize(
    "words",
    ["stapo", "stapo_v1", "justrl objective.selection=RandomRare objective.tau_p=0.3"],
)
def test_what_has_no_pass_is_the_same_for_two_ranks(tmp_path, words):
    """The second alone asks for statistics of what is left out: those of all tokens."""
    one, words = recorded(tmp_path, *f"objective={words}".split(), kl_coef=0)
    assert any(share > 0 for _, share in read_scalars(one)["policy/pruned_fraction"])
    assert_equal_curves(run(tmp_path, 2, *words), one, STEPS, names=SAME)
    whole = run(tmp_path / "whole", 2, *words, "data.prune=false")
    assert_equal_curves(whole, one, STEPS, names=SAME)


@pytest.fixture(scope="module")
def sharded_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded_run")
    result = resuming.fit(folder, None, *SHARDED, ranks=2)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.parametrize(
    "moment", ["during a rollout", "between micro-batches", "while a checkpoint is written"]
)
def test_a_killed_sharded_run_resumes_to_the_last_bit(sharded_run, tmp_path, moment):
    assert resuming.fit(tmp_path, moment, *SHARDED, ranks=2).returncode == -signal.SIGKILL
    before = resuming.losses(tmp_path)
    (tmp_path / "losses").unlink()
    assert resuming.fit(tmp_path, None, *SHARDED, "ckpt_path=last", ranks=2).returncode == 0
    after = resuming.losses(tmp_path)
    assert min(key[0] for key in after if key[0] != "validation") == "2"
    assert before | after == resuming.losses(sharded_run)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("end", ["raises", "dies"])
def test_a_rank_that_ends_takes_the_run_down(tmp_path, rank, end):
    start = time.monotonic()
    result = resuming.fit(tmp_path, f"rank {rank} {end}", *SHARDED)
    assert result.returncode != 0 and time.monotonic() - start < 60
    if end == "raises":
        first, *_ = re.findall(r"\S*rror.*", result.stderr)  # a progress bar may be before it
        assert first.endswith(f"error: rank {rank} gives up")


@pytest.fixture(scope="module")
def four_steps(tmp_path_factory):
    """A run of one process, and the words of others on the same rollouts."""
    folder = tmp_path_factory.mktemp("four_steps")
    return recorded(folder, "objective=stapo", "trainer.max_epochs=2")


@pytest.mark.parametrize(
    "settings",
    [(OFFLOAD,), (COMPILE,), (PACK,), (CHECKPOINT,), ALL],
    ids=["offload", "compile", "pack", "checkpoint", "all"],
)
def test_settings_that_save_memory_or_time_change_nothing_else(four_steps, tmp_path, settings):
    one, words = four_steps
    assert_equal_curves(run(tmp_path, 2, *words, *settings), one, 4)


@pytest.mark.parametrize("ranks", [(2, 1), (1, 2)], ids=["fewer", "more"])
def test_a_sharded_run_goes_on_with_another_number_of_ranks(four_steps, tmp_path, ranks):
    one, words = four_steps
    run(tmp_path, ranks[0], *words, "trainer=fsdp", "trainer.max_epochs=1")
    resumed = run(tmp_path, ranks[1], *words, "trainer=fsdp", "ckpt_path=last")
    assert_equal_curves(resumed, one, 4)


def test_weights_stay_fp32_where_passes_compute_in_bfloat16(tmp_path):
    folder = run(tmp_path, 2, "trainer.precision=bf16-mixed", "trainer.max_epochs=1")
    (checkpoint,) = folder.glob("checkpoints/*.ckpt")
    metadata = dcp.FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    kinds = {entry.properties.dtype for entry in metadata.values() if hasattr(entry, "properties")}
    assert kinds == {torch.float32}
    assert 0 < read_scalars(folder)["rollout/sampler_gap_max"][0][1] < 0.5


def test_export_equals_the_trained_weights(sharded_run, tmp_path):
    (checkpoint,) = (sharded_run / "logs").glob("*/*/checkpoints/rollout-00003.ckpt")
    export(checkpoint, tmp_path / "exported")
    exported = dict(load_policy(str(tmp_path / "exported")).named_weights())
    start = dict(load_policy(str(sharded_run / "model")).named_weights())
    state = {"state_dict": {f"policy.model.{k}": torch.zeros_like(w) for k, w in start.items()}}
    dcp.load(state, checkpoint_id=checkpoint, no_dist=True)
    for name, weight in exported.items():
        assert torch.equal(weight, state["state_dict"][f"policy.model.{name}"])
        assert not torch.equal(weight, start[name])


def test_a_checkpoint_goes_on_in_the_way_it_was_made(sharded_run, tmp_path):
    result = resuming.fit(sharded_run, None, "ckpt_path=last")
    assert result.returncode == 2
    assert "the checkpoint is sharded; go on with trainer=fsdp" in result.stderr
    assert resuming.fit(tmp_path, None, "trainer.max_epochs=1").returncode == 0
    result = resuming.fit(tmp_path, None, "ckpt_path=last", *SHARDED)
    assert result.returncode == 2
    assert "the checkpoint is not sharded; go on without trainer=fsdp" in result.stderr
