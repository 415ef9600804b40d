"""Continuous batching gives what transformers' own `generate` gives, and computes less."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoConfig,
    Lfm2Config,
    LlamaConfig,
    PreTrainedModel,
    RwkvConfig,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from stapo_pl.core.seeding import seed_for
from stapo_pl.core.types import Completion, Decoding, Request
from stapo_pl.policy.loading import load_config
from stapo_pl.policy.model import shipped_policy
from stapo_pl.samplers import Room, continuous
from stapo_pl.samplers import transformers as sampler_module
from stapo_pl.samplers.attention import DECODING, decoding_attention
from stapo_pl.samplers.continuous import Generation
from stapo_pl.samplers.turns import generate_in_turns, keeps_only_tokens
from support.policies import tiny_policy
from support.sampling import ENDS, build, generate

SIZES = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 48,
    "initializer_range": 0.3,
}  # fmt: skip
GPT2 = {"vocab_size": 40, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}
CONFIGS = {
    "grouped heads": LlamaConfig(**SIZES),
    "sliding window": Gemma3TextConfig(
        **SIZES,
        head_dim=8,
        sliding_window=5,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    # As many as are needed: the last of 30 new tokens is never read.
    "learned positions": GPT2Config(**GPT2, n_positions=19 + 30 - 1),
}
DECODING_30 = Decoding(30)
# Prompts of 1 to 19 tokens, each asked several times.
REQUESTS = [
    Request([2 + (7 * i + j) % 37 for j in range(1 + 3 * i % 19)], seed_for("test", i, k))
    for i in range(12)
    for k in range(15 if i == 6 else 3)  # the longest one most often
]


def model_of(config) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float64).eval()


@torch.no_grad()
def answer(model, decoding=DECODING_30, batch_size=8, requests=REQUESTS) -> list[Completion]:
    return Generation(model, ENDS, decoding, batch_size, requests).run(lambda ended: None)


@torch.no_grad()
def by_transformers(model, decoding=DECODING_30, requests=REQUESTS) -> list[Completion]:
    size = len(requests)
    return generate_in_turns(model, ENDS, decoding, size, requests, lambda ended: None)


def assert_same(found: list[Completion], expected: list[Completion]) -> None:
    assert [c.token_ids for c in found] == [c.token_ids for c in expected]
    assert [c.truncated for c in found] == [c.truncated for c in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.logprobs == pytest.approx(theirs.logprobs, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_completions_are_those_of_generate(name):
    model = model_of(CONFIGS[name])
    expected = by_transformers(model)
    lengths = {len(c.token_ids) for c in expected}
    assert min(lengths) < 10 and max(lengths) == 30  # some end early, and some are cut
    model.set_attn_implementation(DECODING)
    for batch_size in (1, 8, 36):
        assert_same(answer(model, batch_size=batch_size), expected)


@pytest.mark.parametrize(
    "decoding", [Decoding(30, temperature=0), Decoding(30, temperature=0.7, top_p=0.9, top_k=8)]
)
def test_decodings_are_those_of_generate(decoding):
    model = model_of(CONFIGS["grouped heads"])
    assert_same(answer(model, decoding), by_transformers(model, decoding))


def test_the_same_run_twice_is_the_same_to_the_last_bit():
    model = model_of(CONFIGS["grouped heads"]).float()
    first, second = answer(model), answer(model)
    assert [(c.token_ids, c.logprobs) for c in first] == [(c.token_ids, c.logprobs) for c in second]


def shapes_of(model, **settings) -> tuple[list[tuple[int, int, int]], list[Completion]]:
    """The numbers of rows, of new tokens and of columns of each pass, and the completions."""
    shapes: list[tuple[int, int, int]] = []

    def note(module, args, kwargs):
        shapes.append((*kwargs["input_ids"].shape, kwargs["attention_mask"].shape[1]))

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    completions = answer(model, **settings)
    handle.remove()
    return shapes, completions


def test_a_prompt_is_read_once_for_its_group():
    shapes, _ = shapes_of(model_of(CONFIGS["grouped heads"]), batch_size=len(REQUESTS))
    assert shapes[0] == (12, 19, 19) and all(new == 1 for _, new, _ in shapes[1:])


def test_what_has_ended_is_not_computed_and_what_waits_takes_its_place():
    shapes, completions = shapes_of(model_of(CONFIGS["grouped heads"]), batch_size=16)
    steps = [rows for rows, new, columns in shapes if new == 1 and columns > 1]
    tokens = sum(len(c.token_ids) for c in completions)
    # The first token of each comes from its prompt. Less than an eighth is computed for nothing.
    assert tokens - len(REQUESTS) <= sum(steps) <= 1.2 * tokens
    assert max(steps) == 16 and steps[-1] <= 4


def test_the_cache_has_room_for_little_more_than_the_longest_sequence():
    """The sequences of this run are 30 times as long together."""
    model = model_of(CONFIGS["grouped heads"])
    requests = [Request([2, 3], seed_for("many", i)) for i in range(120)]
    shapes, found = shapes_of(model, batch_size=4, requests=requests)
    assert max(columns for _, _, columns in shapes) <= 1.6 * 32
    assert_same(found, by_transformers(model, requests=requests))


def test_completions_are_told_as_they_end():
    model, calls = model_of(CONFIGS["grouped heads"]), []
    with torch.no_grad():
        completions = Generation(model, ENDS, DECODING_30, 8, REQUESTS).run(calls.append)
    assert len(calls) > 4 and sum(map(len, calls)) == len(REQUESTS)
    told = {number: completion for ended in calls for number, completion in ended.items()}
    assert [told[number] for number in range(len(REQUESTS))] == completions


OTHERS = {
    "a recurrent layer": Lfm2Config(**SIZES, layer_types=["conv", "full_attention", "conv"]),
    "queries placed by the columns of the cache": GPTNeoConfig(
        vocab_size=40, hidden_size=32, num_layers=2, num_heads=4, max_position_embeddings=64,
        attention_types=[[["global", "local"], 1]], window_size=5, initializer_range=0.3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_are_sampled_in_turns(name, monkeypatch):
    policy = tiny_policy(dtype=torch.float32).eval()
    policy.model = model_of(OTHERS[name]).float()
    monkeypatch.delattr(sampler_module, "Generation")
    sampler = build(sampler_module.TransformersSampler(8), policy)
    # Some of them know no masks, so the prompts have one length.
    requests = [Request([2 + (5 * i + j) % 37 for j in range(6)], i) for i in range(20)]
    found = generate(sampler, requests, DECODING_30)
    assert_same(found, by_transformers(policy.model, requests=requests))


def test_a_model_may_keep_its_state_outside_of_the_cache():
    config = RwkvConfig(vocab_size=40, hidden_size=32, num_hidden_layers=2, context_length=64)
    assert not keeps_only_tokens(model_of(config))
    assert all(keeps_only_tokens(model_of(known)) for known in CONFIGS.values())


def test_a_sampler_decodes_with_its_own_attention_and_leaves_the_configuration_alone():
    config = load_config(str(shipped_policy()))
    sampler = sampler_module.TransformersSampler(8)
    sampler.build(config, [504], torch.device("cpu"), 64, Room())
    assert sampler.model.config._attn_implementation == DECODING
    assert load_config(str(shipped_policy())).to_dict() == config.to_dict()
    assert config._attn_implementation != DECODING


def test_many_prompts_are_read_in_several_passes(monkeypatch):
    monkeypatch.setattr(continuous, "_PASS_TOKENS", 40)
    model = model_of(CONFIGS["grouped heads"])
    shapes, found = shapes_of(model, batch_size=len(REQUESTS))
    passes = [(rows, new) for rows, new, columns in shapes if new > 1]
    assert len(passes) > 2 and all(rows * new <= 40 for rows, new in passes)
    assert_same(found, by_transformers(model))


@pytest.mark.parametrize("shape, dtype", [((3, 4, 1, 9), torch.bool), ((3, 1, 1, 9), torch.float)])
def test_attention_with_unusual_masks_is_that_of_sdpa(shape, dtype, generator):
    query, key, value = (
        torch.randn(3, heads, columns, 8, generator=generator)
        for heads, columns in ((4, 1), (2, 9), (2, 9))
    )
    mask = torch.rand(shape, generator=generator)
    mask = mask > 0.3 if dtype == torch.bool else mask
    module = nn.Module()
    module.num_key_value_groups = 2
    ours, _ = decoding_attention(module, query, key, value, mask, scaling=0.3)
    theirs, _ = sdpa_attention_forward(module, query, key, value, mask, scaling=0.3)
    torch.testing.assert_close(ours, theirs)


def test_a_sequence_that_ended_at_the_last_place_may_stay_for_a_while():
    """The model knows no further place, and others go on."""
    model = model_of(CONFIGS["learned positions"])
    requests = [Request(list(range(2, 21)), seed_for("last", i)) for i in range(120)]
    found = answer(model, batch_size=20, requests=requests)
    assert_same(found, by_transformers(model, requests=requests))
