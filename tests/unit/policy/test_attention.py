"""No matrix of scores: heads of keys are repeated where no fused kernel takes fewer of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F
from transformers import MistralConfig, MistralForCausalLM

from stapo_pl.policy import attention
from stapo_pl.policy.attention import PADDED, packed_attention, padded_attention, repeated_attention
from stapo_pl.policy.model import Policy
from stapo_pl.rollout.batching import collate
from support.carriers import trajectory
from support.policies import tiny_policy

BATCH = collate([trajectory([2, 3, 4], [5, 6, 7, 8]), trajectory([9], [10, 11])], 0, 1.0)
SLIDING = MistralConfig(
    vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=1, sliding_window=2,
)  # fmt: skip


@pytest.mark.parametrize("make", [tiny_policy, lambda: Policy(MistralForCausalLM(SLIDING))])
def test_on_a_cpu_attention_is_that_of_transformers_to_the_last_bit(make):
    policy = make().eval()
    assert policy.model.config._attn_implementation == PADDED
    ours = policy(BATCH).logprobs_T
    policy.model.set_attn_implementation("sdpa")
    assert torch.equal(policy(BATCH).logprobs_T, ours)


def test_repeated_heads_attend_as_grouped_ones(generator):
    module = SimpleNamespace(num_key_value_groups=3)
    made = [
        torch.randn(2, heads, 7, 8, generator=generator, dtype=torch.float64) for heads in (6, 2, 2)
    ]
    outputs = []
    for attend in (padded_attention, repeated_attention):
        inputs = [x.clone().requires_grad_() for x in made]
        out, _ = attend(module, *inputs, None)
        out.square().sum().backward()
        outputs.append([out, *(x.grad for x in inputs)])
    for grouped, repeated in zip(*outputs, strict=True):
        torch.testing.assert_close(repeated, grouped, rtol=1e-12, atol=1e-12)


def on_gpu(dtype: torch.dtype) -> list[torch.Tensor]:
    """Queries of four heads, keys and values of two, as a GPU would have them."""
    return [torch.empty(1, heads, 10, 64, dtype=dtype, device="cuda") for heads in (4, 2, 2)]


@pytest.mark.parametrize(
    "dtype, autocast, is_repeated",
    [
        (torch.float32, None, True),
        (torch.float32, torch.bfloat16, False),
        (torch.bfloat16, None, False),
    ],
)
def test_a_gpu_repeats_heads_in_fp32_alone(monkeypatch, dtype, autocast, is_repeated):
    calls = []

    def kernel(query, key, value, **settings):
        calls.append((key.shape[1], settings.get("enable_gqa", False)))
        return torch.empty(query.shape)

    monkeypatch.setattr(F, "scaled_dot_product_attention", kernel)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: autocast is not None)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda device: autocast)
    with FakeTensorMode():
        padded_attention(SimpleNamespace(num_key_value_groups=2), *on_gpu(dtype), None)
    assert calls == [(4, False) if is_repeated else (2, True)]


@pytest.mark.parametrize("takes_groups", [True, False])
def test_variable_length_attention_repeats_heads_where_it_has_to(monkeypatch, takes_groups):
    """torch 2.11's takes as many heads of keys as of queries only."""
    calls = []

    def kernel(query, key, value, *lengths, scale, window_size, **settings):
        calls.append((query.shape, key.shape[1], value.shape[1], settings))
        return query

    monkeypatch.setattr(attention, "varlen_attn", kernel)
    monkeypatch.setattr(attention, "_VARLEN_TAKES_GROUPS", takes_groups)
    with FakeTensorMode():
        ends = torch.empty(3, dtype=torch.int32, device="cuda")
        settings = {"cu_seq_lens_q": ends, "max_length_q": 6}
        out, _ = packed_attention(None, *on_gpu(torch.bfloat16), None, **settings)
    assert out.shape == (1, 10, 4, 64)
    heads = (2, 2, {"enable_gqa": True}) if takes_groups else (4, 4, {})
    assert calls == [((10, 4, 64), *heads)]
