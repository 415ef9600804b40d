"""Loading a policy whole or without weights, and refusing what could not be trained."""

from __future__ import annotations

import shutil

import pytest
import torch
from conftest import tiny_policy
from transformers import MambaConfig, MambaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from stapo_pl.errors import ConfigError
from stapo_pl.loading import WeightFiles, empty_policy, load_policy
from stapo_pl.policy import Policy, shipped_policy


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_an_empty_policy_has_shapes_ties_and_buffers_but_no_weights(tmp_path, tied):
    tiny_policy(tied=tied, dtype=torch.float32).model.save_pretrained(tmp_path)
    whole, empty = load_policy(str(tmp_path)), empty_policy(str(tmp_path), "model.path")
    shapes = {name: p.shape for name, p in whole.named_parameters()}
    assert {name: p.shape for name, p in empty.named_parameters()} == shapes
    assert all(p.is_meta and p.dtype == torch.float32 for p in empty.parameters())
    head, embedding = empty.model.get_output_embeddings(), empty.model.get_input_embeddings()
    assert (head.weight is embedding.weight) == tied
    buffers = dict(empty.named_buffers())
    assert buffers.keys() == dict(whole.named_buffers()).keys() != set()
    assert all(torch.equal(buffers[name], b) for name, b in whole.named_buffers())


def test_weights_are_streamed_from_safetensors_only(tmp_path):
    folder = shutil.copytree(shipped_policy(), tmp_path / "model")
    files = WeightFiles(str(folder), "model.path")
    with pytest.raises(ConfigError, match=r"model\.path=.*: its files hold no nothing"):
        files.read(["nothing", "nowhere"])
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="from safetensors files only"):
        WeightFiles(str(folder), "model.path")


def test_models_that_cannot_be_packed_are_refused(tmp_path):
    torch.manual_seed(0)
    small = {
        "vocab_size": 30, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
    }  # fmt: skip
    windows = Qwen3Config(
        **small, num_attention_heads=2, num_key_value_heads=1, head_dim=8, sliding_window=4,
        use_sliding_window=True, max_window_layers=0,
    )  # fmt: skip
    Qwen3ForCausalLM(windows).save_pretrained(tmp_path / "windows")
    with pytest.raises(ConfigError, match=r"model\.packing does not know sliding windows"):
        load_policy(str(tmp_path / "windows"), prepare=Policy.pack)
    recurrent = MambaConfig(**small, initializer_range=1.0)
    MambaForCausalLM(recurrent).save_pretrained(tmp_path / "recurrent")
    load_policy(str(tmp_path / "recurrent"))
    with pytest.raises(ConfigError, match=r"with model\.packing only plain attention"):
        load_policy(str(tmp_path / "recurrent"), prepare=Policy.pack)
