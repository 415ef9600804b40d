"""Two processes that share one policy's shards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stapo_pl.policy.export import export
from stapo_pl.policy.loading import load_policy, load_tokenizer
from stapo_pl.policy.model import shipped_policy
from support.ranks import check_ten_steps, run, start


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
    result = start(tmp_path, 2, "task=support.uneven.Uneven", "trainer=fsdp")
    assert result.returncode != 0
    errors = [line for line in result.stderr.splitlines() if "rror" in line]
    expected = "error: ranks differ in their number of training prompts: 64, 63; give all of them"
    assert errors[0].startswith(expected)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_ten_steps_of_two_ranks_are_those_of_one(tmp_path):
    check_ten_steps(tmp_path, "stapo")
