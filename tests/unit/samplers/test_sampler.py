"""Every sampler draws from the policy, one seed a request, and leaves no trace."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList, TopKLogitsWarper, TopPLogitsWarper

from stapo_pl.core.errors import ConfigError, TrainingError
from stapo_pl.core.seeding import seed_for
from stapo_pl.core.types import Decoding, Request
from stapo_pl.policy.loading import load_config, load_policy, load_tokenizer
from stapo_pl.policy.model import Policy, shipped_policy
from stapo_pl.samplers import (
    Room,
    TransformersSampler,
    VLLMSampler,
    auto,
    choose_sampler,
)
from stapo_pl.samplers.vllm import sampler as vllm
from stapo_pl.samplers.vllm.folder import config_folder
from support.sampling import ENDS, REQUESTS, build, gap, generate, small_policy


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def policy(request) -> Policy:
    return small_policy(request.param)


@pytest.fixture(
    scope="module", params=["transformers", pytest.param("vllm", marks=pytest.mark.vllm)]
)
def sampler(request, policy):
    engine = TransformersSampler() if request.param == "transformers" else VLLMSampler()
    yield build(engine, policy)
    engine.close()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_the_policy(policy, sampler, temperature):
    completions = generate(sampler, REQUESTS, Decoding(12, temperature))
    for request, completion in zip(REQUESTS, completions, strict=True):
        assert gap(policy, request, completion, temperature) <= 1e-4


def test_a_response_depends_on_its_own_seed_only(sampler):
    whole = generate(sampler, REQUESTS, Decoding(12))
    parts = generate(sampler, REQUESTS[::-1][:7], Decoding(12))[::-1]
    assert [c.token_ids for c in whole[-7:]] == [c.token_ids for c in parts]
    others = [Request(r.prompt_ids, r.seed + 1) for r in REQUESTS]
    changed = generate(sampler, others, Decoding(12))
    assert [c.token_ids for c in whole] != [c.token_ids for c in changed]


def test_frequencies_are_the_probabilities(policy, sampler):
    requests = [Request([3], seed_for("frequency", i)) for i in range(20_000)]
    completions = generate(sampler, requests, Decoding(1))
    counts = torch.bincount(torch.tensor([c.token_ids[0] for c in completions]), minlength=40)
    with torch.no_grad():
        p = policy.model(input_ids=torch.tensor([[3]])).logits[0, 0].softmax(-1)
    deviation = (counts - 20_000 * p) / (20_000 * p * (1 - p)).sqrt()
    assert deviation.abs().max() < 5


def test_top_p_and_top_k_logprobs_are_renormalised(policy, sampler):
    decoding = Decoding(1, temperature=1.0, top_p=0.6, top_k=5)
    (completion,) = generate(sampler, REQUESTS[:1], decoding)
    ids = torch.tensor([REQUESTS[0].prompt_ids])
    with torch.no_grad():
        scores = policy.model(input_ids=ids).logits[:, -1]
    warped = LogitsProcessorList([TopKLogitsWarper(5), TopPLogitsWarper(0.6)])(ids, scores)
    expected = warped.log_softmax(-1)[0, completion.token_ids[0]]
    assert completion.logprobs[0] == pytest.approx(expected.item(), abs=1e-5)


def test_greedy_takes_the_most_likely_token(policy, sampler):
    (completion,) = generate(sampler, REQUESTS[:1], Decoding(5, temperature=0.0))
    ids = list(REQUESTS[0].prompt_ids)
    for token in completion.token_ids:
        with torch.no_grad():
            assert policy.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax() == token
        ids.append(token)


def test_responses_end_at_an_end_token_or_the_limit(sampler):
    completions = generate(sampler, REQUESTS, Decoding(12))
    assert {*ENDS} < {completion.token_ids[-1] for completion in completions}
    for completion in completions:
        assert completion.truncated == (completion.token_ids[-1] not in ENDS)
        assert not {*ENDS} & {*completion.token_ids[:-1]}
        assert len(completion.token_ids) == len(completion.logprobs) <= 12
        assert not completion.truncated or len(completion.token_ids) == 12


def test_global_random_states_are_untouched(policy, sampler):
    def states():
        return (
            random.getstate()[1],
            np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(),
        )

    before = states()
    generate(sampler, REQUESTS, Decoding(4))
    assert states() == before


def test_no_requests(sampler):
    assert generate(sampler, [], Decoding(4)) == []


def test_missing_weights_are_an_error(policy, sampler):
    with pytest.raises((ValueError, TrainingError), match=r"no weights for .*norm"):
        sampler.load_weights((n, w) for n, w in policy.named_weights() if "norm" not in n)
    sampler.load_weights(policy.named_weights())


def test_shipped_policy_solves_some_problems():
    path = str(shipped_policy())
    policy, tokenizer = load_policy(path), load_tokenizer(path)
    sampler = TransformersSampler()
    sampler.build(load_config(path), [tokenizer.eos_token_id], torch.device("cpu"), 128, Room())
    sampler.load_weights(policy.named_weights())
    request = Request(tokenizer.encode("Compute 20+30-10+11."), seed=0)
    (completion,) = generate(sampler, [request], Decoding(96, temperature=0.0))
    assert tokenizer.decode(completion.token_ids).endswith(r"\boxed{51}.<|end|>")


def test_folders_of_configurations_are_made_once_by_any_number_of_starts(tmp_path):
    config = load_config(str(shipped_policy()))
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: config_folder(config, tmp_path / "cache"), range(32)))
    (folder,) = folders
    assert [*folder.parent.iterdir()] == [folder]
    assert load_config(str(folder)).hidden_size == config.hidden_size
    made = (folder / "config.json").stat().st_mtime_ns
    config.hidden_size *= 2
    assert config_folder(config, folder.parent) != folder
    assert (folder / "config.json").stat().st_mtime_ns == made
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write there .* set VLLM_CACHE_ROOT"):
        config_folder(config, tmp_path / "file")


def test_the_transformers_sampler_cuts_its_requests_into_batches(policy):
    whole, parts = (
        generate(build(TransformersSampler(size), policy), REQUESTS, Decoding(12))
        for size in (256, 7)
    )
    assert [c.token_ids for c in whole] == [c.token_ids for c in parts]


@pytest.mark.parametrize(
    "device, installed, kind, reason",
    [
        ("cpu", True, TransformersSampler, "there is no GPU"),
        ("cuda", False, TransformersSampler, "vLLM is not installed"),
        ("cuda", True, VLLMSampler, "it is installed and there is a GPU"),
    ],
)
def test_the_choice_of_a_sampler(device, installed, kind, reason, monkeypatch):
    for module in (auto, vllm):
        monkeypatch.setattr(module, "is_installed", lambda: installed)
    sampler, choice = choose_sampler(torch.device(device))
    assert type(sampler) is kind and choice.endswith(reason)
