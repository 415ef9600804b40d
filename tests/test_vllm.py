"""Real vLLM: in step with the policy, killed and resumed, and every way it has of going wrong."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import test_resume
import torch
from conftest import CONFIGS
from datasets import Dataset
from test_fit import FEW_PROBLEMS, SMALL, fit, make, read_scalars, scalars
from test_sampler import ENDS, REQUESTS, build, gap, generate, small_policy
from test_tasks import verl_row

from stapo_pl.cli.fit import main
from stapo_pl.cli.grammar import expand
from stapo_pl.core.errors import ConfigError, TrainingError
from stapo_pl.core.seeding import seed_for
from stapo_pl.core.types import Decoding, Request
from stapo_pl.policy.loading import load_config, load_policy, load_tokenizer
from stapo_pl.policy.model import Policy, shipped_policy
from stapo_pl.samplers import Room, VLLMSampler
from stapo_pl.samplers.vllm.memory import EngineMemory

pytestmark = pytest.mark.vllm

CPU = torch.device("cpu")
# Longer than a block of the KV cache, so that it is shared between requests and over time.
LONG_PROMPT = [2 + i % 7 for i in range(40)]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """What a test leaves there is found by no other."""
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path / "vllm"))


@torch.no_grad()
def move(policy: Policy) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in policy.parameters():
        parameter += 0.2 * torch.randn(parameter.shape, generator=generator)


@pytest.fixture
def engines():
    """Makes engines and ends them: there is room for one at a time."""
    made = []

    def make_engine(policy: Policy, **settings) -> VLLMSampler:
        made.append(VLLMSampler(**settings))
        return build(made[-1], policy)

    yield make_engine
    for engine in made:
        engine.close()


@pytest.mark.parametrize("prompt", [[3, 4], LONG_PROMPT], ids=["short", "longer-than-a-block"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_new_weights_reach_the_head_and_the_prefix_cache(engines, tied, prompt):
    policy = small_policy(tied)
    # Sleep, too, would clear the cache.
    engine = engines(policy, sleep_level=0, engine_args={"block_size": 32})
    request = Request(prompt, seed=1)
    for _ in range(3):
        for _ in range(2):  # the second one finds the prompt in the cache
            (completion,) = generate(engine, [request], Decoding(8))
            assert gap(policy, request, completion) <= 1e-4
        move(policy)
        engine.load_weights(policy.named_weights())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_an_engine_that_holds_other_weights_is_found_out(engines, tied, dtype):
    policy = small_policy(tied)
    engine = engines(policy, dtype=dtype)
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


def test_prompts_that_do_not_fit_a_step_wait_for_the_next(engines):
    """Cut in two, they end the CPU's engine, whose random numbers cannot be wound back."""
    policy = small_policy(tied=True)
    engine = engines(policy, engine_args={"max_num_batched_tokens": 64})
    requests = [Request([2 + i, *LONG_PROMPT[1:]], seed=i) for i in range(8)]
    for request, completion in zip(requests, generate(engine, requests, Decoding(8)), strict=True):
        assert gap(policy, request, completion) <= 1e-4


def test_samples_of_a_prompt_differ_and_equal_seeds_give_equal_samples(engines):
    engine = engines(small_policy(tied=True))
    requests = [Request(LONG_PROMPT, seed_for("rollout", 5, i)) for i in range(64)]
    assert len({request.seed for request in requests}) == 64
    responses = [tuple(c.token_ids) for c in generate(engine, requests, Decoding(24))]
    assert len(set(responses)) > 60
    again = [tuple(c.token_ids) for c in generate(engine, requests, Decoding(24))]
    assert responses == again


def test_no_other_token_ends_a_response(engines):
    """The engine is told which tokens do; those that it finds in the config do not count."""
    policy = small_policy(tied=True)
    policy.model.config.eos_token_id = [1, *range(2, 20)]
    for completion in generate(engines(policy), REQUESTS, Decoding(12)):
        assert completion.truncated == (completion.token_ids[-1] not in ENDS)
        assert len(completion.token_ids) == 12 or not completion.truncated


def test_building_leaves_random_states_and_threads_alone(engines):
    def states():
        numpy = np.random.get_state()[1].tolist()
        return random.getstate(), numpy, torch.get_rng_state().tolist()

    policy, before, threads = small_policy(tied=True), states(), torch.get_num_threads()
    engines(policy)
    assert states() == before and torch.get_num_threads() == threads
    torch.set_num_threads(threads + 1)
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)


def untied(folder: Path) -> Path:
    """The shipped policy with a head of its own."""
    policy = load_policy(str(shipped_policy()))
    config, weights = policy.model.config, dict(policy.named_weights())
    shutil.copytree(shipped_policy(), folder)
    config.tie_word_embeddings = False
    model = type(policy.model)(config)
    head = weights["model.embed_tokens.weight"].clone()
    model.load_state_dict(weights | {"lm_head.weight": head})
    model.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is False
    return folder


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("head", ["tied", "untied"])
def test_the_gap_stays_below_1e_4_while_the_policy_learns(tmp_path, head, temperature):
    model = shipped_policy() if head == "tied" else untied(tmp_path / "model")
    rows = [verl_row(f"Compute {i} + {i}. " * 4, str(2 * i)) for i in range(30)]
    file = tmp_path / "rows.parquet"
    Dataset.from_list(rows).to_parquet(file)
    cli = make(
        tmp_path, "sampler=vllm", "sampler.engine_args={block_size: 32}", f"model.path={model}",
        f"data.temperature={temperature}", "data.max_new_tokens=24", "trainer.max_epochs=5",
        "trainer.check_val_every_n_epoch=9", "objective=grpo", "objective.entropy_coef=0.1",
        "model.warmup_steps=0", "model.max_sampler_gap_mean=1e-5", "model.on_sampler_gap=raise",
        task=("task=file", f"task.path={file}", "task.validation_size=4"),
    )  # fmt: skip
    fit(cli)
    assert min(len(prompt.token_ids) for prompt in cli.datamodule.prompts.train) > 32
    gaps = [value for _, value in scalars(cli)["rollout/sampler_gap_max"]]
    assert len(gaps) == 5 and max(gaps) <= 1e-4
    start = dict(load_policy(str(model)).named_weights())
    moved = [(w - start[n]).abs().max() for n, w in cli.model.policy.named_weights()]
    assert min(moved) > 1e-4


def test_a_short_run_learns(tmp_path):
    cli = make(
        tmp_path, "objective=stapo", "sampler=vllm", "trainer.max_epochs=4",
        "data.prompts_per_rollout=64", "data.prompts_per_mini_batch=32", "data.group_size=8",
        "trainer.accumulate_grad_batches=4", "trainer.check_val_every_n_epoch=4",
        task=("task.validation_size=128",),
    )  # fmt: skip
    curves = scalars(fit(cli))
    first, *_, last = (value for _, value in curves["val/accuracy_greedy"])
    assert last > first + 0.15
    assert all(0 < seconds < 5 for _, seconds in curves["time/sync_s"])
    assert all(value < 1e-4 for _, value in curves["rollout/sampler_gap_max"])


@pytest.mark.parametrize("objective", ["grpo", "stapo"])
def test_old_logprobs_of_the_sampler(tmp_path, objective):
    """Within the gap, the losses are those of recomputed log-probabilities."""
    words = (f"objective={objective}", "sampler=vllm", "trainer.max_epochs=1")
    passes = {}
    curves = {}
    for source in ("recompute", "sampler"):
        cli = make(tmp_path, *words, f"data.old_logprobs={source}")
        count = passes[source] = []
        score = cli.model.statistics
        cli.model.statistics = lambda micro, score=score, count=count: (
            count.append(1) or score(micro)
        )
        curves[source] = scalars(fit(cli))
    for name in ("policy/loss", "policy/grad_norm", "policy/kl_old"):
        expected = [pytest.approx(v, rel=1e-3, abs=1e-6) for _, v in curves["recompute"][name]]
        assert [v for _, v in curves["sampler"][name]] == expected, name
    # Two micro-batches of the second mini-batch need no old log-probabilities any more. What is
    # left is asked for by STAPO's selection: of both mini-batches.
    counted = {name: len(made) for name, made in passes.items()}
    selects = 4 if objective == "stapo" else 0
    assert counted == {"recompute": selects + 2, "sampler": selects}
    first = curves["sampler"]["policy/ratio_max"][0][1]
    assert first != 1 and first == pytest.approx(1, abs=1e-3)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert test_resume.fit(folder, None, "sampler=vllm").returncode == 0
    return test_resume.losses(folder)


@pytest.mark.parametrize("moment", ["during a rollout", "between micro-batches", "the engine dies"])
def test_a_run_with_vllm_resumes_to_the_last_bit(uninterrupted, tmp_path, moment):
    ended = test_resume.fit(tmp_path, moment, "sampler=vllm")
    if moment == "the engine dies":
        assert ended.returncode == 1
        last = ended.stderr.strip().splitlines()[-1]
        assert last.startswith("error: the vLLM engine died while taking over weights: ")
        assert "ckpt_path=last goes on from the last checkpoint in" in ended.stdout
        assert "Traceback" not in ended.stderr
    else:
        assert ended.returncode == -signal.SIGKILL
    before = test_resume.losses(tmp_path)
    (tmp_path / "losses").unlink()
    assert test_resume.fit(tmp_path, None, "sampler=vllm", "ckpt_path=last").returncode == 0
    after = test_resume.losses(tmp_path)
    assert min(key[0] for key in after if key[0] != "validation") == "2"
    assert before | after == uninterrupted
    assert {key: after[key] for key in after if key in before} == {
        key: before[key] for key in after if key in before
    }


def test_engines_of_one_rank_and_engines_across_ranks_sample_the_same(tmp_path):
    for left in Path("/dev/shm").glob("*cpushm*"):  # by a test that was killed
        left.unlink()
    curves = {}
    for ranks, size in ((1, 1), (2, 1), (2, 2)):
        folder = tmp_path / f"{ranks}-{size}"
        words = [
            *SMALL, *FEW_PROBLEMS, "objective=dapo", "sampler=vllm", "task.validation_size=9",
            f"sampler.tensor_parallel_size={size}", "trainer.accelerator=cpu",
            f"trainer.accumulate_grad_batches={4 // ranks}", f"trainer.devices={ranks}",
            "trainer.strategy=" + ("auto" if ranks == 1 else "ddp"), f"run.logs={folder}",
            "run.name=run",
        ]  # fmt: skip
        result = subprocess.run(
            [sys.executable, test_resume.FIT, *words],
            env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        (run,) = (folder / "run").iterdir()
        curves[ranks, size] = read_scalars(run)
    for several in ((2, 1), (2, 2)):
        for name, values in curves[1, 1].items():
            if not name.startswith(("time/", "throughput/", "rollout/sampler_gap")):
                expected = [(step, pytest.approx(v, rel=2e-3, abs=1e-5)) for step, v in values]
                assert curves[several][name] == expected, (several, name)


def start(**settings) -> VLLMSampler:
    path = str(shipped_policy())
    engine = VLLMSampler(**settings)
    engine.build(load_config(path), [load_tokenizer(path).eos_token_id], CPU, 128, Room())
    return engine


def test_too_little_memory_says_what_to_set(tmp_path):
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


def test_an_untested_version_is_named(monkeypatch):
    import vllm

    monkeypatch.setattr(vllm, "__version__", "0.99.0")
    with pytest.warns(UserWarning, match=r"vLLM 0\.99\.0 is installed, tested is 0\.32\.x"):
        start().close()


@pytest.mark.parametrize("failure", [KeyboardInterrupt, TrainingError("as the user says")])
def test_an_engine_is_freed_after_an_exception_and_the_next_run_finds_its_folder(tmp_path, failure):
    """Freed, so that the same process can have another; what interrupts it is what comes out."""
    for number in range(2):
        cli = make(tmp_path, "sampler=vllm", "trainer.max_epochs=1", f"run.name={number}")
        (callback,) = (c for c in cli.trainer.callbacks if hasattr(c, "engine"))
        generate = callback.engine.generate

        def interrupted(requests, decoding, progress, generate=generate):
            def stop(done, total):
                raise failure

            return generate(requests, decoding, stop)

        callback.engine.generate = interrupted
        with pytest.raises((SystemExit, TrainingError)) as raised:
            fit(cli)
        assert callback.engine._engine is None
        assert raised.type is (TrainingError if isinstance(failure, Exception) else SystemExit)
    folders = Path(os.environ["VLLM_CACHE_ROOT"], "stapo_pl")
    assert len([*folders.glob("*/config.json")]) == len([*folders.iterdir()]) == 1


def test_a_dead_engine_raises_one_clear_error(engines):
    engine = engines(small_policy(tied=True))
    engine.engine.llm.llm_engine.engine_core.shutdown()
    with pytest.raises(TrainingError, match="the vLLM engine died while sampling"):
        generate(engine, REQUESTS, Decoding(4))


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
