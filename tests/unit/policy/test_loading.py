"""Loading a policy whole or without weights, and refusing what could not be trained."""

from __future__ import annotations

import shutil
from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MambaConfig, MambaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.loading import check, load_policy
from stapo_pl.policy.model import Policy, shipped_policy
from stapo_pl.policy.streaming import WeightFiles, empty_policy
from support.policies import tiny_policy


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


NORM, EMBEDDING = ("model.norm.weight",), ("model.embed_tokens.weight", "lm_head.weight")


def test_files_that_cannot_be_streamed_are_refused_before_anything_is_read(tmp_path):
    def refuses(shapes: dict, reason: str) -> None:
        with pytest.raises(ConfigError, match=rf"model\.path=.*cannot be streamed: {reason}"):
            WeightFiles(str(folder), "model.path", shapes)

    folder = shutil.copytree(shipped_policy(), tmp_path / "model")
    files = WeightFiles(str(folder), "model.path", {NORM: (96,), EMBEDDING: (506, 96)})
    whole = dict(load_policy(str(folder)).named_weights())
    assert torch.equal(files.read(EMBEDDING), whole[EMBEDDING[0]])
    refuses({("nothing", "nowhere"): (1,)}, "they hold no nothing")
    refuses({NORM: (97,)}, r"model\.norm\.weight has shape \[96\], not \[97\]")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {EMBEDDING[1]: tensors[EMBEDDING[0]] + 1}, file)
    refuses({EMBEDDING: (506, 96)}, r"lm_head\.weight and .* are tied, but differ")
    file.write_bytes(file.read_bytes()[:1000])
    refuses({}, ".*cannot be read")
    file.unlink()
    refuses({}, "there are no safetensors files")


def test_buffers_that_files_hold_are_not_left_out_in_silence(tmp_path):
    tiny_policy(dtype=torch.float32).model.save_pretrained(tmp_path)
    made = Qwen3ForCausalLM.__init__

    def with_buffer(self, config) -> None:
        made(self, config)
        self.register_buffer("scale", torch.ones(1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Qwen3ForCausalLM, "__init__", with_buffer)
        with pytest.raises(ConfigError, match=r"keeps buffers in its files \(scale\)"):
            empty_policy(str(tmp_path), "model.path")


@pytest.mark.parametrize("roundings, refused", [(1, False), (40, True)])
def test_bfloat16_may_round_a_pass_otherwise_but_no_more(roundings, refused):
    policy = tiny_policy(dtype=torch.bfloat16)
    policy.model.lm_head.weight.data *= 20
    policy.pack()
    largest = policy.own_logits(torch.arange(8)).abs().max()
    assert largest > 13  # one rounding of it is 0.1

    def round_otherwise(module, args, output):
        is_packed = output.shape[1] == 13
        return output * (1 + is_packed * roundings * torch.finfo(output.dtype).eps)

    policy.model.model.norm.register_forward_hook(round_otherwise)
    outcome = (
        pytest.raises(ConfigError, match="log-probabilities differ") if refused else nullcontext()
    )
    with outcome:
        check(policy, "model.path=here", torch.device("cpu"))


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
