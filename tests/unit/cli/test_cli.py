"""The command line: one line for every mistake, before anything heavy is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from stapo_pl.cli.fit import main
from stapo_pl.cli.grammar import OverrideError, expand
from stapo_pl.samplers.vllm import sampler as vllm
from support.places import CONFIGS


@pytest.mark.parametrize(
    "words, message",
    [
        ("objective.tau_q=1", "objective.tau_q: no such key; did you mean objective.tau_p?"),
        (
            "--objective=stapo",
            "objective: give it as a word, objective=NAME; in a YAML",
        ),
        ("run.name=${nothere}", "nothere"),
        (f"ckpt_path={__file__}", "not a checkpoint"),
        (f"ckpt_path={Path(__file__).parent}", "not a checkpoint"),
        ("objective.tau_p=2", "tau_p must lie between 0 and 1, got 2.0"),
        ("objective.quantile=75", "quantile must lie between 0 and 1, got 75.0"),
        ("data.group_size=1", "data.group_size must be at least 2, got 1"),
        ("data.prompts_per_mini_batch=48", "does not divide data.prompts_per_rollout=64"),
        ("data.temperature=0", "data.temperature must be greater than 0"),
        ("model.path=/nowhere", "model.path=/nowhere: no such folder"),
        ("ckpt_path=/nowhere.ckpt", "no such checkpoint"),
        ("trainer.max_steps=10", "set trainer.max_epochs"),
        ("trainer.precision=bf16-true", "trainer.precision=bf16-true is not supported"),
        ("trainer=fsdp trainer.precision=64-true", "sharded weights are fp32; use auto, 32-true"),
        ("trainer.limit_train_batches=3", "trainer.limit_train_batches=3 is not supported"),
        ("trainer.limit_train_batches=1", "trainer.limit_train_batches=1 is not supported"),
        ("trainer.overfit_batches=1", "trainer.overfit_batches=1 is not supported"),
        ("trainer.fast_dev_run=true", "trainer.fast_dev_run=True is not supported"),
        ("trainer.check_val_every_n_epoch=0", "trainer.check_val_every_n_epoch must be at least 1"),
        ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches must be at least 1"),
        ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val must not be negative"),
        ("model.optimizer.lr=-1", "model.optimizer: Invalid learning rate"),
        ("objective.kl_coef=-1", "kl_coef must not be negative, got -1.0"),
        ("objective=STAPOO", "did you mean stapo?"),
        (
            "objective.kl_coef=1 model.reference_path=/no",
            "model.reference_path=/no: no such folder",
        ),
        ("data.max_tokens_per_micro_batch=0", "data.max_tokens_per_micro_batch must be at least 1"),
        ("objective=bnpo", "the words for it are objective=grpo objective.aggregation=token-mean"),
        ("objective=vanilla", "objective.aggregation=token-mean objective.dual_clip=3"),
        ("objective=dppo", "the words for it are objective=dppo_tv or objective=dppo_kl"),
        ("objective=ppo", "objective=ppo: it needs a critic; its clipped loss"),
        ("objective=vespo", "objective=vespo: it is not there; there are cispo"),
        ("objective.advantage=optimal_token_baseline", "; here it is objective=otb"),
        ("objective.advantage=gae", "; that is not there"),
        ("objective.kl_estimator=low_var_kl", "; here it is k3"),
        ("experiment=stapo_1.7b", "did you mean stapo_qwen3_1.7b?"),
        ("experiment=stapo_qwen3_1.7B", "did you mean stapo_qwen3_1.7b?"),
        ("experiment=stapo_qwen3", "did you mean stapo_qwen3"),
        ("objective=opd", "model.teacher_path is null: this objective learns from a teacher"),
        ("model.teacher_path=/no", "model.teacher_path=/no: nothing would learn from it; take"),
        ("objective=opd model.teacher_path=/no", "model.teacher_path=/no: no such folder"),
        (
            "objective=opd model.teacher_path=/no objective.dynamic_sampling.max_rounds=2",
            "a teacher teaches from all of them; set objective.dynamic_sampling=null",
        ),
        ("objective=kl_cov objective.ratio=0", "ratio must lie above 0 and be at most 1, got 0.0"),
        ("objective=kl_cov objective.coef=-1", "coef must not be negative, got -1.0"),
        ("objective=clip_cov objective.band_low=9", "band_low must be below band_high, got 9.0"),
        ("trainer.accelerator=gpuu", "invalid accelerator name"),
        ("trainer.devices=0", "trainer: `Trainer(devices='0')` value is not a valid input"),
        ("trainer.devices=many", "trainer: `devices` selected"),
        ("trainer.accelerator=tpu", "trainer: Requirement 'torch_xla"),
        ("seed_everything=-1", "seed_everything=-1: expected a whole number from 0 to 4294967295"),
        ("seed_everything=4294967296", "expected a whole number from 0 to 4294967295"),
        ("sampler=transformers sampler.batch_size=0", "sampler.batch_size must be at least 1"),
        ("objective.correction=TokenTIS objective.correction.cap=0.5", "cap must be at least 1"),
        ("objective.correction=IcePop objective.correction.low=2", "low <= 1 <= high, got low=2.0"),
        ("data.top_p=0", "data needs 0 < top_p <= 1 and top_k >= 0, got top_p=0.0"),
        ("data.top_p=0.9", "or objective.correction=TokenTIS data.old_logprobs=recompute"),
        ("data.top_p=0.9 objective.correction=SequenceTIS", "or objective.correction=TokenTIS"),
        ("data.top_k=20 data.old_logprobs=sampler", "set data.top_p=1 data.top_k=0, or objective."),
        (
            "data.old_logprobs=sampler objective.correction=TokenTIS",
            "which is 1 with data.old_logprobs=sampler",
        ),
        ("model.max_sampler_gap_kl=-1", "model.max_sampler_gap_kl must not be negative"),
        ("task.steps=0", "task.steps must be at least 1"),
        (
            "data.max_prompt_tokens=5",
            "16384 of 16384 training rows cannot be used: training problem 1: a prompt",
        ),
        ("data.max_new_tokens=9000", "exceeds the 8192 positions of the model by 840"),
        ("trainer.accumulate_grad_batches=1000", "more micro-batches than there are samples"),
    ],
)
def test_every_mistake_is_one_line(words, message, tmp_path, capsys):
    try:
        args = expand([*words.split(), f"run.logs={tmp_path}"], CONFIGS)
    except OverrideError as error:
        assert message in str(error)
        return
    with pytest.raises(SystemExit) as stopped:
        main(args, CONFIGS)
    assert stopped.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and message in last


def test_a_sampler_that_is_not_installed_says_how_to_install_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(vllm, "is_installed", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        main(expand(["sampler=vllm", f"run.logs={tmp_path}"], CONFIGS), CONFIGS)
    assert stopped.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: sampler=vllm needs vLLM, which is not installed: pip install")


@pytest.mark.parametrize("word", ["sampler=vlm", "stapo", "task=maths"])
def test_words_are_checked_before_anything_heavy_is_imported(word):
    with pytest.raises(OverrideError):
        expand([word], CONFIGS)


def test_expand():
    words = [
        "trainer.max_epochs=3",
        "objective=grpo",
        "task.steps=2",
        "--data.group_size",
        "4",
        "-h",
    ]
    assert expand(words, CONFIGS) == [
        f"--model.objective={CONFIGS / 'objective' / 'grpo.yaml'}",
        "--run.objective=grpo",
        "--trainer.max_epochs=3",
        "--data.task.steps=2",
        "--data.group_size",
        "4",
        "-h",
    ]


def test_the_value_of_a_spaced_flag_is_left_alone():
    assert expand(["--run.name", "lr=3"], CONFIGS) == ["--run.name", "lr=3"]


def test_a_file_of_ones_own(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.touch()
    words = expand([f"objective={mine}"], CONFIGS)
    assert words == [f"--model.objective={mine}", "--run.objective=mine"]
    with pytest.raises(OverrideError, match="no such file"):
        expand([f"objective={tmp_path / 'other.yaml'}"], CONFIGS)


def test_a_file_that_was_renamed_is_found_and_the_new_name_said(capsys):
    assert expand(["task=verl_parquet"], CONFIGS) == expand(["task=file"], CONFIGS)
    assert capsys.readouterr().err == "task=verl_parquet is called task=file here\n"


@pytest.mark.parametrize(
    "theirs, ours",
    [
        ("geo_mean", "gmpo"),
        ("optimal_token_baseline", "otb"),
        ("reinforce_plus_plus", "reinforce_pp"),
    ],
)
def test_names_of_verl_and_trl_answer_with_ours(capsys, theirs, ours):
    assert expand([f"objective={theirs}"], CONFIGS) == expand([f"objective={ours}"], CONFIGS)
    assert capsys.readouterr().err == f"objective={theirs} is called objective={ours} here\n"
