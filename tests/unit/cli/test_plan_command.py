"""`stapo fit --plan`: what it prints, and that it needs nothing but the settings."""

from __future__ import annotations

import re
import socket

import pytest
import torch

from stapo_pl.cli.fit import main
from stapo_pl.cli.grammar import expand
from stapo_pl.core.errors import Terminated
from stapo_pl.memory.plan import architecture
from stapo_pl.samplers.memory import weight_bytes
from stapo_pl.training import planning
from support.places import CONFIGS


def planned(capsys, *words: str) -> str:
    """What the command prints."""
    with pytest.raises(SystemExit) as ended:
        main(expand([*words, "--plan"], CONFIGS), CONFIGS)
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "size", ["1.7b", *(pytest.param(size, marks=pytest.mark.slow) for size in ("8b", "14b"))]
)
def test_plan_of_a_model_that_is_not_here(size, tmp_path, monkeypatch, capsys):
    """Nothing is asked of a network; a GPU that is not here has vLLM."""

    def no_network(*args, **kwargs):
        raise AssertionError(f"a network was asked for {args}")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.chdir(tmp_path)
    words = [f"model=qwen3_{size}", "trainer=fsdp", "trainer.devices=8"]
    plan = planned(capsys, *words)
    parameters = weight_bytes(architecture(f"Qwen/Qwen3-{size.upper()}"), torch.int8)
    assert f"1/8 of {parameters:,} in float32" in plan
    assert "in bfloat16, checkpointed" in plan and "8 GPU rank(s)" in plan
    assert "vLLM" in plan and "transformers" not in plan
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("trainer", ["trainer=ddp", "trainer=fsdp", "trainer.strategy=auto"])
def test_plans_are_of_the_precision_that_runs(trainer, tmp_path, capsys):
    for precision, computes in (("auto", "bfloat16"), ("32-true", "float32")):
        plan = planned(capsys, trainer, f"trainer.precision={precision}", "trainer.devices=2")
        assert f"tokens in {computes}" in plan and "in float32" in plan.split("\n")[2]


@pytest.mark.parametrize(
    "words",
    [
        "sampler=vllm",
        "task=file task.path=no.jsonl",
        "task=gsm8k",
        "logger=wandb",
        "model=qwen3_8b",
    ],
)
def test_a_plan_needs_neither_data_nor_packages(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    monkeypatch.chdir(tmp_path)
    assert "peak" in planned(capsys, *words.split())
    assert not list(tmp_path.iterdir())


def peak_of(plan: str) -> str:
    return re.search(r"peak (\S+) of", plan)[1]


CHECKPOINTS, BUDGET = "gradient_checkpointing=true", "max_tokens_per_micro_batch=128"
SHARDS, OFFLOAD, ADAPTERS = "trainer=fsdp", "cpu_offload=true", "rank=16"
WHAT_TAKES_LESS = {
    "trainer.devices=1": [CHECKPOINTS, BUDGET, OFFLOAD, ADAPTERS],
    "trainer.devices=4": [CHECKPOINTS, BUDGET, SHARDS, OFFLOAD, ADAPTERS],
    # Its batch has to become smaller again when other things have.
    "sampler=transformers": [
        CHECKPOINTS, "batch_size=128", BUDGET, "batch_size=8", OFFLOAD, "batch_size=4", ADAPTERS,
    ],
    "trainer=fsdp data.max_tokens_per_micro_batch=128": [CHECKPOINTS, OFFLOAD, ADAPTERS],
}  # fmt: skip


@pytest.mark.parametrize("given", WHAT_TAKES_LESS)
def test_what_takes_less_is_what_the_command_then_plans(given, capsys):
    """Each line, as words of the command on top of those before it."""
    words = [*given.split(), "estimate.gpu_gib=0.001"]
    plan = planned(capsys, *words)
    assert "of 0.001 GiB: DOES NOT FIT\nwhat takes less" in plan
    assert "more GPUs with trainer=fsdp, or a shorter data.max_new_tokens" in plan
    shown = re.findall(r"^  (\S+=\S+(?: \S+=\S+)*) .*peak (\S+) GiB$", plan, re.MULTILINE)
    assert [word.rpartition(".")[2] for word, _ in shown] == WHAT_TAKES_LESS[given]
    peaks = [float(peak_of(plan))]
    for word, peak in shown:
        words += word.split()
        assert peak_of(planned(capsys, *words)) == peak
        peaks.append(float(peak))
    assert peaks == sorted(peaks, reverse=True)


def test_nothing_more_is_shown_than_makes_it_fit(capsys):
    words = ["sampler=transformers", "sampler.batch_size=1", "trainer=fsdp", "trainer.devices=4"]
    words += ["model.gradient_checkpointing=true"]
    peak = float(peak_of(planned(capsys, *words, "estimate.gpu_gib=100")))
    plan = planned(capsys, *words, f"estimate.gpu_gib={0.9 * peak}")
    assert re.findall(r"  (\S+) .*, fits\n", plan) == ["data.max_tokens_per_micro_batch=128"]
    assert "  model." not in plan and "more GPUs" not in plan


@pytest.mark.parametrize(
    "words, message",
    [
        ("trainer.devices=foo", "trainer.devices=foo: expected a number from 1, a list, or auto"),
        ("trainer.devices=0", "trainer.devices=0: expected a number from 1"),
        ("trainer.devices=-2", "trainer.devices=-2: expected a number from 1"),
        ("trainer.devices=7", "prompts_per_mini_batch=32 does not divide among 7 ranks"),
        ("data.max_tokens_per_micro_batch=0", "micro_batch must be at least 1, got 0"),
        ("data.max_new_tokens=999999999", "exceeds the 8192 positions of the model"),
        ("data.validation.max_new_tokens=9000", "exceeds the 8192 positions of the model"),
        ("estimate.response_tokens=97", "=97 is more than the longest, which is 96"),
        ("estimate.gpu_gib=0", "estimate.gpu_gib must be greater than 0, got 0"),
    ],
)
def test_what_a_run_refuses_a_plan_refuses(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(expand([*words.split(), "--plan"], CONFIGS), CONFIGS)
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (2, "") and message in told.err


def test_a_plan_that_is_told_to_end_ends(monkeypatch, capsys):
    def told(*args, **kwargs):
        raise Terminated

    monkeypatch.setattr(planning, "plan_memory", told)
    with pytest.raises(SystemExit) as ended:
        main(expand(["--plan"], CONFIGS), CONFIGS)
    assert ended.value.code == 143
