"""Updates see the policy that was sampled from and scored, whatever the model drops."""

from __future__ import annotations

import shutil
from functools import partial

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.lora import LoRA
from stapo_pl.policy.model import shipped_policy
from stapo_pl.rollout.batching import collate
from stapo_pl.training.module import PolicyModule
from support.carriers import trajectory
from support.objectives import build_objective

LLAMA = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 64, "attention_dropout": 0.3,
}  # fmt: skip
# Dropout modules, functional dropout, a layer's own, whole layers, and attention's.
DROPPING = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
    "opt": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 64,
        "word_embed_proj_dim": 32, "layerdrop": 0.5,
    },
    "llama": LLAMA,
    "qwen2": LLAMA,
    "gpt_neox": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "hidden_dropout": 0.3,
    },
}  # fmt: skip
BATCH = collate([trajectory([2, 3, 4], [5, 6, 7, 8]), trajectory([9], [10, 11])], 0, 1.0)


@pytest.fixture(params=DROPPING)
def folder(request, tmp_path):
    """A random model of an architecture that drops, with the shipped tokenizer."""
    torch.manual_seed(0)
    for file in shipped_policy().glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    size = {"vocab_size": len(AutoTokenizer.from_pretrained(tmp_path))}
    config = AutoConfig.for_model(request.param, **size, **DROPPING[request.param])
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    return tmp_path


def module(folder, **settings) -> PolicyModule:
    optimizer = partial(torch.optim.SGD, lr=0.1)
    made = PolicyModule(build_objective("grpo"), optimizer, str(folder), **settings)
    made.configure_model()
    return made


def saved(policy) -> tuple[torch.Tensor, int]:
    """Log-probabilities of a pass as an update makes it, and how many tensors it keeps."""
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x)
    with hooks:
        logprobs_T = policy(BATCH).logprobs_T
    assert logprobs_T.requires_grad
    return logprobs_T.detach(), len(kept)


def test_updates_and_scoring_are_one_distribution(folder):
    plain = module(folder).policy
    logprobs_T, kept = saved(plain)
    with torch.no_grad():
        assert torch.equal(plain.eval()(BATCH).logprobs_T, logprobs_T)
    # Checkpointing, which transformers has in training mode only, works all the same.
    again_T, kept_again = saved(module(folder, gradient_checkpointing=True).policy)
    assert torch.equal(again_T, logprobs_T) and kept_again < kept / 3
    dropped_T, _ = saved(module(folder, dropout=True).policy)
    assert not torch.allclose(dropped_T, logprobs_T)


def test_checkpointed_gradients_are_those_of_the_same_dropout(folder):
    gradients = []
    for checkpointing in (False, True):
        policy = module(folder, dropout=True, gradient_checkpointing=checkpointing).policy
        torch.manual_seed(1)
        policy(BATCH).logprobs_T.sum().backward()
        gradients.append([p.grad for p in policy.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_dropout_of_adapters_is_refused_without_that_of_updates():
    with pytest.raises(ConfigError, match=r"model\.lora\.dropout=0\.1 needs model\.dropout=true"):
        module(shipped_policy(), lora=LoRA(rank=2, dropout=0.1))
