"""Real vLLM: in step with the policy, killed and resumed, and every way it has of going wrong."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
import torch

from stapo_pl.cli.fit import main
from stapo_pl.cli.grammar import expand
from stapo_pl.core.errors import ConfigError, TrainingError
from stapo_pl.core.seeding import seed_for
from stapo_pl.core.types import Decoding, Request
from stapo_pl.policy.loading import load_config, load_policy, load_tokenizer
from stapo_pl.policy.model import Policy, shipped_policy
from stapo_pl.samplers import Room, VLLMSampler
from stapo_pl.samplers.vllm.memory import EngineMemory
from support.places import CONFIGS
from support.sampling import ENDS, REQUESTS, build, gap, generate, small_policy

pytestmark = pytest.mark.vllm

CPU = torch.device("cpu")
# Longer than a block of the KV cache, so that it is shared between requests and over time.
LONG_PROMPT = [2 + i % 7 for i in range(40)]
# Sleep, too, would clear the cache.
AWAKE = {"dtype": "float32", "sleep_level": 0, "engine_args": {"block_size": 32}}


@torch.no_grad()
def move(policy: Policy) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in policy.parameters():
        parameter += 0.2 * torch.randn(parameter.shape, generator=generator)


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def tied(request) -> bool:
    """All that is asked of one of them comes before the other."""
    return request.param


class Engines:
    """Engines with a policy's weights; one whose settings fit is taken, not another one started.

    There is room for one at a time.
    """

    key = engine = None

    def __call__(self, policy: Policy, **settings) -> VLLMSampler:
        key = (policy.model.config.to_json_string(), settings)
        if key == self.key:
            self.engine.load_weights(policy.named_weights())
            return self.engine
        self.end()
        self.key, self.engine = key, VLLMSampler(**settings)
        return build(self.engine, policy)

    def end(self) -> None:
        if self.engine is not None:
            self.engine.close()
        self.key = self.engine = None


@pytest.fixture(scope="module")
def engines():
    engines = Engines()
    yield engines
    engines.end()


def test_new_weights_reach_the_head_and_the_prefix_cache(engines, tied):
    policy = small_policy(tied)
    engine = engines(policy, **AWAKE)
    for prompt in ([3, 4], LONG_PROMPT):  # the second one is longer than a block
        request = Request(prompt, seed=1)
        for _ in range(3):
            for _ in range(2):  # the second one finds the prompt in the cache
                (completion,) = generate(engine, [request], Decoding(8))
                assert gap(policy, request, completion) <= 1e-4
            move(policy)
            engine.load_weights(policy.named_weights())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_engine_that_holds_other_weights_is_found_out(engines, tied, dtype):
    policy = small_policy(tied)
    engine = engines(policy, **AWAKE | {"dtype": dtype})
    move(policy)
    weights, load = dict(policy.named_weights()), engine.engine.model.load_weights

    def refuses(names: str, sent: dict = weights) -> None:
        with pytest.raises(TrainingError, match=f"nothing was sampled from them: {names}$"):
            engine.load_weights(sent.items())

    if tied:
        repack, engine.engine.repack_tied_head = engine.engine.repack_tied_head, lambda: None
        refuses(r"model\.embed_tokens\.weight \(as lm_head\.weight\)")
        engine.engine.repack_tied_head = repack
    layer = "model.layers.1.self_attn."
    for part in ("k_proj", "v_proj"):
        key = f"{layer}{part}.weight"
        refuses(re.escape(key), {n: w for n, w in weights.items() if n != key})
    for key in (f"{layer}k_proj.weight", f"{layer}q_norm.weight", "model.embed_tokens.weight"):
        stale = weights[key].clone()
        stale.view(-1)[5] *= 1.01
        engine.engine.model.load_weights = lambda sent, key=key, stale=stale: load(
            (name, stale if name == key else weight) for name, weight in sent
        )
        refuses(
            re.escape(key) + (r", .* \(as lm_head\.weight\)" if tied and "embed" in key else "")
        )
    engine.engine.model.load_weights = load
    engine.load_weights(weights.items())


def test_building_leaves_random_states_and_threads_alone(engines):
    def states():
        numpy = np.random.get_state()[1].tolist()
        return random.getstate(), numpy, torch.get_rng_state().tolist()

    engines.end()
    policy, before, threads = small_policy(tied=True), states(), torch.get_num_threads()
    engines(policy)
    assert states() == before and torch.get_num_threads() == threads
    torch.set_num_threads(threads + 1)
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)


def test_the_engine_samples_again_after_sleep(engines):
    policy = small_policy(tied=True)
    engine = engines(policy)
    before = generate(engine, REQUESTS, Decoding(8))
    for _ in range(2):
        engine.sleep()
        with pytest.raises(AssertionError, match="load_weights"):
            generate(engine, REQUESTS, Decoding(8))
        engine.load_weights(policy.named_weights())
        engine.sleep()  # again, before it was used
        engine.load_weights(policy.named_weights())
        after = generate(engine, REQUESTS, Decoding(8))
        assert [c.token_ids for c in before] == [c.token_ids for c in after]


def test_samples_of_a_prompt_differ_and_equal_seeds_give_equal_samples(engines):
    engine = engines(small_policy(tied=True))
    requests = [Request(LONG_PROMPT, seed_for("rollout", 5, i)) for i in range(64)]
    assert len({request.seed for request in requests}) == 64
    responses = [tuple(c.token_ids) for c in generate(engine, requests, Decoding(24))]
    assert len(set(responses)) > 60
    again = [tuple(c.token_ids) for c in generate(engine, requests, Decoding(24))]
    assert responses == again


def test_a_dead_engine_raises_one_clear_error(engines):
    engine = engines(small_policy(tied=True))
    engine.engine.llm.llm_engine.engine_core.shutdown()
    with pytest.raises(TrainingError, match="the vLLM engine died while sampling"):
        generate(engine, REQUESTS, Decoding(4))
    engines.end()


def test_prompts_that_do_not_fit_a_step_wait_for_the_next(engines):
    """Cut in two, they end the CPU's engine, whose random numbers cannot be wound back."""
    policy = small_policy(tied=True)
    engine = engines(policy, engine_args={"max_num_batched_tokens": 64})
    requests = [Request([2 + i, *LONG_PROMPT[1:]], seed=i) for i in range(8)]
    for request, completion in zip(requests, generate(engine, requests, Decoding(8)), strict=True):
        assert gap(policy, request, completion) <= 1e-4


def test_no_other_token_ends_a_response(engines):
    """The engine is told which tokens do; those that it finds in the config do not count."""
    policy = small_policy(tied=True)
    policy.model.config.eos_token_id = [1, *range(2, 20)]
    for completion in generate(engines(policy), REQUESTS, Decoding(12)):
        assert completion.truncated == (completion.token_ids[-1] not in ENDS)
        assert len(completion.token_ids) == 12 or not completion.truncated


def start(**settings) -> VLLMSampler:
    path = str(shipped_policy())
    engine = VLLMSampler(**settings)
    engine.build(load_config(path), [load_tokenizer(path).eos_token_id], CPU, 128, Room())
    return engine


def test_too_little_memory_says_what_to_set(engines):
    engines.end()
    with pytest.raises(ConfigError, match=r"could not start: .* raise sampler.kv_cache_gib") as few:
        start(kv_cache_gib=1e-5)
    advised = float(str(few.value).partition("at least ")[2].split(",")[0])
    assert advised < 0.01
    start(kv_cache_gib=advised).close()  # the advice is good
    with pytest.raises(ConfigError, match=r"lower sampler.kv_cache_gib from 4096 to at most \d+"):
        start(kv_cache_gib=4096)


def test_settings_that_cannot_work_are_refused(tmp_path, capsys):
    for words, message in (
        (["sampler.max_model_len=100"], "less than the 128 tokens of data.max_prompt_tokens plus"),
        (["sampler.tensor_parallel_size=2"], "does not divide the 1 rank(s)"),
        (["sampler.gpu_memory_utilization=2"], "must be auto, or lie between 0 and 1, got 2.0"),
        (["sampler.kv_cache_gib=0"], "sampler.kv_cache_gib must be positive"),
        (["sampler.engine_args={seed: 1}"], "sampler.engine_args.seed is the sampler's own"),
        (["sampler.engine_args={nonsense: 1}"], "unexpected keyword argument 'nonsense'"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(expand(["sampler=vllm", *words, f"run.logs={tmp_path}"], CONFIGS), CONFIGS)
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err.splitlines()[-1]


def test_an_untested_version_is_named(engines, monkeypatch):
    import vllm

    engines.end()
    monkeypatch.setattr(vllm, "__version__", "0.99.0")
    with pytest.warns(UserWarning, match=r"vLLM 0\.99\.0 is installed, tested is 0\.32\.x"):
        start().close()


def test_memory_arithmetic():
    config = load_config(str(shipped_policy()))
    memory = EngineMemory(config, torch.float32, 128, CPU)
    policy = load_policy(str(shipped_policy()))
    numel = sum(w.numel() for _, w in policy.named_weights())
    assert memory.weights == pytest.approx(numel * 4 / 2**30)
    half = EngineMemory(config, torch.bfloat16, 128, CPU, tensor_parallel_size=2)
    assert half.weights == memory.weights / 4
    assert half.sequence_cache == memory.sequence_cache / 4
    # On a GPU, where the share of the memory is set.
    memory.free, memory.total = 40.0, 80.0
    assert "to at least 0.11, or" in memory.advice(0.01, None)
    assert "lower sampler.gpu_memory_utilization from 0.9 to at most 0.5" in memory.advice(
        0.9, None
    )
    assert "raise sampler.gpu_memory_utilization from 0.01 to at least" in memory.advice(0.01, None)
    assert "lower sampler.engine_args.max_num_seqs" in memory.advice(0.4, None)
    memory.free = 4.0
    assert "it does not fit" in memory.advice(0.4, None)
