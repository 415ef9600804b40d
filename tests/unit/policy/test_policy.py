"""Loading a policy, and refusing what could not be trained."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from torch.nn import functional as F
from transformers import Gemma2Config, Gemma2ForCausalLM, Qwen3ForCausalLM

from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.loading import load_policy, load_tokenizer
from stapo_pl.policy.model import shipped_policy
from stapo_pl.rollout.batching import collate
from support.carriers import trajectory
from support.policies import tiny_policy


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(shipped_policy(), tmp_path / "model")


@pytest.mark.parametrize("token", ["pad_token", "eos_token"])
def test_a_tokenizer_needs_pad_and_end_tokens(folder, token):
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    del config[token]
    file.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=f"its tokenizer has no {token}"):
        load_tokenizer(str(folder))


def test_a_folder_without_tokenizer_or_model(folder, tmp_path):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ConfigError, match="no tokenizer could be loaded"):
        load_tokenizer(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="no model could be loaded"):
        load_policy(str(folder))
    with pytest.raises(ConfigError, match="no such folder"):
        load_policy(str(tmp_path / "nowhere"))


def test_a_model_that_caps_its_logits_is_refused(tmp_path):
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=30, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, final_logit_softcapping=0.5,
        initializer_range=1.0,
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="only plain linear heads are supported"):
        load_policy(str(tmp_path))


@pytest.mark.parametrize("tied", [True, False])
def test_statistics_are_those_of_the_models_own_logits(tied):
    policy = tiny_policy(tied=tied)
    trajectories = [
        trajectory([2, 3, 4], [5, 6, 7, 8]),
        trajectory([9], [10, 11], mask=[False, True]),
    ]
    batch = collate(trajectories, 0, temperature=0.8)
    statistics = policy(batch)
    expected = []
    for t in trajectories:
        ids = torch.tensor([t.prompt.token_ids + t.completion.token_ids])
        logp = F.log_softmax(policy.model(input_ids=ids).logits[0] / 0.8, -1)
        for place, teaches in enumerate(t.response_mask, start=len(t.prompt.token_ids)):
            if teaches:
                row = logp[place - 1]
                entropy = -(row.exp() * row).sum()
                expected.append(torch.stack([row[ids[0, place]], entropy, (2 * row).exp().sum()]))
    ours = torch.stack([statistics.logprobs_T, statistics.entropy_T, statistics.collision_T], 1)
    torch.testing.assert_close(ours, torch.stack(expected), rtol=1e-10, atol=1e-10)


def test_named_weights_are_those_of_the_checkpoint(tmp_path):
    policy = tiny_policy(tied=False)
    policy.model.save_pretrained(tmp_path)
    again = dict(Qwen3ForCausalLM.from_pretrained(tmp_path, dtype=torch.float64).named_parameters())
    weights = dict(policy.named_weights())
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
