"""Continuous batching gives what transformers' own `generate` gives, and computes less."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma3TextConfig,
    GPT2Config,
    Lfm2Config,
    LlamaConfig,
    PreTrainedModel,
)

from stapo_pl.core.seeding import seed_for
from stapo_pl.core.types import Completion, Decoding, Request
from stapo_pl.samplers import transformers as sampler_module
from stapo_pl.samplers.attention import DECODING
from stapo_pl.samplers.continuous import ROOM, Generation
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
    # Some layers see 5 tokens.
    "sliding window": Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=5),
    # The last request of 30 tokens uses its last position.
    "learned positions": GPT2Config(**GPT2, n_positions=19 + 30),
    "positions in attention": BloomConfig(**GPT2),
}
DECODING_30 = Decoding(30)
# Prompts of 1 to 19 tokens, each asked three times.
REQUESTS = [
    Request([2 + (7 * i + j) % 37 for j in range(1 + 3 * i % 19)], seed_for("test", i, k))
    for i in range(12)
    for k in range(3)
]


def model_of(config) -> PreTrainedModel:
    torch.manual_seed(0)
    # transformers' Bloom gives NaN for padded prompts in float64.
    dtype = torch.float32 if isinstance(config, BloomConfig) else torch.float64
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


@torch.no_grad()
def answer(model, decoding=DECODING_30, batch_size=8, requests=REQUESTS) -> list[Completion]:
    return Generation(model, ENDS, decoding, batch_size, requests).run(lambda done, total: None)


@torch.no_grad()
def by_transformers(model, decoding=DECODING_30, requests=REQUESTS) -> list[Completion]:
    size = len(requests)
    return generate_in_turns(model, ENDS, decoding, size, requests, lambda done, total: None)


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
    if model._supports_attention_backend:
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
    shapes, _ = shapes_of(model_of(CONFIGS["grouped heads"]), batch_size=36)
    assert shapes[0] == (12, 19, 19) and all(new == 1 for _, new, _ in shapes[1:])


def test_what_has_ended_is_not_computed_and_what_waits_takes_its_place():
    shapes, completions = shapes_of(model_of(CONFIGS["grouped heads"]), batch_size=16)
    steps = [rows for rows, new, columns in shapes if new == 1 and columns > 1]
    tokens = sum(len(c.token_ids) for c in completions)
    # The first token of each comes from its prompt. At most an eighth is computed for nothing
    # while sequences wait, and rounding makes it a little more when few are left.
    assert tokens - 36 <= sum(steps) <= 1.2 * tokens
    assert max(steps) == 16 and steps[-1] <= 2


def test_the_cache_has_room_for_little_more_than_the_longest_sequence():
    """The sequences of this run are 30 times as long together."""
    model = model_of(CONFIGS["grouped heads"])
    requests = [Request([2, 3], seed_for("many", i)) for i in range(120)]
    shapes, found = shapes_of(model, batch_size=4, requests=requests)
    assert max(columns for _, _, columns in shapes) <= 32 + ROOM + 32 // ROOM
    assert_same(found, by_transformers(model, requests=requests))


def test_progress_counts_what_has_ended():
    model, calls = model_of(CONFIGS["grouped heads"]), []
    with torch.no_grad():
        Generation(model, ENDS, DECODING_30, 8, REQUESTS).run(lambda *call: calls.append(call))
    done = [done for done, total in calls]
    assert done == sorted(done) and len(set(done)) > 4 and {total for _, total in calls} == {36}


def test_models_with_recurrent_layers_are_sampled_in_turns(monkeypatch):
    config = Lfm2Config(**SIZES, layer_types=["conv", "full_attention", "conv"])
    assert not keeps_only_tokens(config)
    assert all(keeps_only_tokens(other) for other in CONFIGS.values())
    policy = tiny_policy(dtype=torch.float32).eval()
    policy.model = model_of(config).float()
    monkeypatch.delattr(sampler_module, "Generation")
    sampler = build(sampler_module.TransformersSampler(8), policy)
    found = generate(sampler, REQUESTS, DECODING_30)
    assert_same(found, by_transformers(policy.model))
