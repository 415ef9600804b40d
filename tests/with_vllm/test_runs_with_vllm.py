"""Runs that sample with real vLLM, in step with the policy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from datasets import Dataset

from stapo_pl.core.errors import TrainingError
from stapo_pl.policy.loading import load_policy
from stapo_pl.policy.model import shipped_policy
from support.commands import run_ranks
from support.fitting import FEW_PROBLEMS, SMALL, VALIDATED, fit, make, read_scalars, scalars
from support.rows import verl_row

pytestmark = pytest.mark.vllm


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
        "trainer.accumulate_grad_batches=4", "trainer.check_val_every_n_epoch=4", VALIDATED,
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
        result = run_ranks("fit", ranks, *words)
        assert result.returncode == 0, result.stderr
        (run,) = (folder / "run").iterdir()
        curves[ranks, size] = read_scalars(run)
    for several in ((2, 1), (2, 2)):
        for name, values in curves[1, 1].items():
            if not name.startswith(("time/", "throughput/", "rollout/sampler_gap")):
                expected = [(step, pytest.approx(v, rel=2e-3, abs=1e-5)) for step, v in values]
                assert curves[several][name] == expected, (several, name)


def test_an_engine_is_freed_after_an_exception_and_the_next_run_finds_its_folder(
    tmp_path, monkeypatch
):
    """Freed, so that the same process can have another; what interrupts it is what comes out."""
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path / "vllm"))
    failures = [KeyboardInterrupt, TrainingError("as the user says"), KeyboardInterrupt]
    for number, failure in enumerate(failures):
        cli = make(tmp_path, "sampler=vllm", "trainer.max_epochs=1", f"run.name={number}")
        (callback,) = (c for c in cli.trainer.callbacks if hasattr(c, "engine"))
        generate = callback.engine.generate

        def interrupted(requests, decoding, _, generate=generate, failure=failure):
            def stop(ended):
                raise failure

            return generate(requests, decoding, stop)

        callback.engine.generate = interrupted
        with pytest.raises((SystemExit, TrainingError)) as raised:
            fit(cli)
        assert callback.engine._engine is None
        assert raised.type is (TrainingError if isinstance(failure, Exception) else SystemExit)
    folders = tmp_path / "vllm" / "stapo_pl"
    assert len([*folders.glob("*/config.json")]) == len([*folders.iterdir()]) == 1
