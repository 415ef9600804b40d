"""Every experiment of the paper is its recipe, setting by setting."""

from __future__ import annotations

from itertools import product

import pytest

from support.words import make_parsers, resolved

OBJECTIVES = ("grpo", "entropy20", "justrl", "stapo", "stapo_v1")
SIZES = {"1.7b": "1.7B", "8b": "8B", "14b": "14B"}
PAPER, JUSTRL, OPEN = "2602.15620", "JustRL's public script", "our choice, see configs/README.md"
# The setting, its value, and where it stands.
RECIPE = {
    "data.task.init_args.path": ("BytedTsinghua-SIA/DAPO-Math-17k", PAPER),
    "data.task.init_args.template": (
        "{problem}\nPlease reason step by step, and put your final answer within \\boxed{}.",
        PAPER,
    ),
    "data.task.init_args.validation_size": (0, PAPER),
    "data.task.init_args.reward.class_path": ("stapo_pl.DAPORule", PAPER),
    "data.prompts_per_rollout": (256, PAPER),
    "data.group_size": (8, PAPER),
    "data.prompts_per_mini_batch": (64, PAPER),
    "data.epochs_per_rollout": (1, PAPER),
    "data.max_prompt_tokens": (1024, PAPER),
    "data.max_new_tokens": (15360, PAPER),
    "data.max_tokens_per_micro_batch": (32768, JUSTRL),
    "data.temperature": (1.0, PAPER),
    "data.top_p": (1.0, PAPER),
    "data.on_bad_row": ("skip", JUSTRL),
    "data.duplicates": ("drop", OPEN),
    "data.prompt_format": ("plain", OPEN),
    "data.stop_token_ids": ([], OPEN),
    "data.validation.temperature": (1.0, PAPER),
    "data.validation.top_p": (1.0, PAPER),
    "data.validation.more_decodings": ([(0.7, 0.9)], PAPER),
    "data.validation.max_new_tokens": (20480, PAPER),
    "model.optimizer.class_path": ("torch.optim.AdamW", PAPER),
    "model.optimizer.init_args.lr": (1e-6, PAPER),
    "model.optimizer.init_args.betas": ((0.9, 0.999), OPEN),
    "model.optimizer.init_args.weight_decay": (0.1, JUSTRL),
    "model.lr_schedule": ("constant", PAPER),
    "model.warmup_steps": (10, PAPER),
    "model.gradient_checkpointing": (True, JUSTRL),
    "data.top_k": (0, PAPER),
    "data.old_logprobs": ("recompute", JUSTRL),
    "model.objective.init_args.correction": (None, PAPER),
    "model.objective.init_args.token_advantage": (None, PAPER),
    "model.objective.init_args.rollout.advantage": ("grpo", PAPER),
    "model.objective.init_args.rollout.dynamic_sampling": (None, PAPER),
    "model.objective.init_args.rollout.overlong_buffer": (0.0, PAPER),
    "model.objective.init_args.rollout.overlong_filtering": (False, PAPER),
    "model.objective.init_args.kl_coef": (0.0, PAPER),
    "model.objective.init_args.entropy_coef": (0.0, PAPER),
    "model.objective.init_args.clip_low": (0.2, PAPER),
    "model.objective.init_args.dual_clip": (10.0, JUSTRL),
    "trainer.gradient_clip_val": (1.0, PAPER),
    "trainer.max_epochs": (750, PAPER),  # 3,000 steps, four a rollout
    "trainer.strategy.class_path": ("stapo_pl.training.strategy.FSDP", OPEN),
    "sampler.engine.class_path": ("stapo_pl.VLLMSampler", PAPER),
}  # fmt: skip
OF_OBJECTIVE = {
    "grpo": {"clip_high": 0.2, "aggregation": "seq-mean-token-mean", "selection": None},
    "entropy20": {"clip_high": 0.28, "aggregation": "token-mean"},
    "justrl": {"clip_high": 0.28, "aggregation": "token-mean", "selection": None},
    "stapo": {"clip_high": 0.28, "aggregation": "token-mean"},
    "stapo_v1": {"clip_high": 0.28, "aggregation": "token-mean"},
}
SELECTIONS = {
    "entropy20": {"fraction": 0.2},
    "stapo": {"tau_p": 0.002, "quantile": 0.75, "scope": "rare"},
    "stapo_v1": {"tau_p": 0.002, "quantile": 0.8, "scope": "all"},
}
BENCHMARKS = {"aime24": 32, "aime25": 32, "amc23": 32, "math_500": 4, "minerva": 4,
              "olympiad_bench": 4}  # fmt: skip


@pytest.fixture(scope="module")
def parsers():
    return make_parsers()


def at(config: dict, key: str):
    for part in key.split("."):
        config = config[part]
    return config


@pytest.mark.parametrize("objective, size", [*product(OBJECTIVES, SIZES)])
def test_an_experiment_of_the_paper_is_its_recipe(parsers, objective, size):
    config = resolved(parsers, f"experiment={objective}_qwen3_{size}")
    for key, (value, source) in RECIPE.items():
        assert at(config, key) == value, f"{key} ({source})"
    own = config["model"]["objective"]["init_args"]
    for key, value in OF_OBJECTIVE[objective].items():
        assert own[key] == value, key
    for key, value in SELECTIONS.get(objective, {}).items():
        assert own["selection"]["init_args"][key] == value, key
    assert config["model"]["path"] == f"Qwen/Qwen3-{SIZES[size]}-Base"
    benchmarks = config["data"]["benchmarks"]
    assert {name: b["samples"] for name, b in benchmarks.items()} == BENCHMARKS


def test_a_word_wins_over_the_experiment_that_an_experiment_starts_from(parsers):
    words = ("experiment=stapo_qwen3_1.7b", "data.group_size=4", "model.path=/models/mine")
    config = resolved(parsers, *words, "objective=gspo", "sampler=transformers")
    assert config["data"]["group_size"] == 4 and config["data"]["prompts_per_rollout"] == 256
    assert config["model"]["path"] == "/models/mine"
    assert config["model"]["objective"]["class_path"].endswith("GSPO")
    assert config["sampler"]["engine"]["class_path"].endswith("TransformersSampler")


@pytest.mark.parametrize("size", ["qwen3_14b", "24gb"])
def test_runs_that_are_compared_differ_in_the_objective_only(parsers, size):
    made = {name: resolved(parsers, f"experiment={name}_{size}") for name in OBJECTIVES}
    losses = {name: config["model"].pop("objective") for name, config in made.items()}
    for name, config in made.items():
        for part in ("data", "trainer", "sampler"):
            assert config[part] == made["stapo"][part], (name, part)
        for key, value in config["model"].items():
            assert value == made["stapo"]["model"][key], (name, key)
        assert losses[name]["init_args"]["dual_clip"] == 10
        assert losses[name]["init_args"]["rollout"] == losses["stapo"]["init_args"]["rollout"]


def test_what_an_experiment_sets_of_a_choice_goes_with_it_and_that_is_said(parsers, capsys):
    config = resolved(parsers, "experiment=stapo_24gb", "objective=gspo")
    assert config["model"]["lora"]["rank"] == 32 and config["data"]["max_new_tokens"] == 4096
    said = capsys.readouterr().err
    assert "without its objective.dual_clip=10.0, as other words choose that group" in said
    resolved(parsers, "experiment=stapo_24gb", "objective.dual_clip=3")
    resolved(parsers, "experiment=stapo_cpu", "objective=grpo")
    assert capsys.readouterr().err == ""


def test_an_experiment_without_its_benchmarks(parsers):
    assert resolved(parsers, "experiment=paper", "benchmark=null")["data"]["benchmarks"] is None
