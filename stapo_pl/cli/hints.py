"""Suggests the setting that was meant if a key does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

# Our name of a setting, and its names in other frameworks.
_ELSEWHERE = {
    "model.path": ("model", "model_name", "model_name_or_path", "model_path", "pretrained", "hf"),
    "model.reference_path": ("ref", "ref_model", "reference", "reference_model"),
    "model.teacher_path": ("teacher", "teacher_model", "teacher_model_name_or_path"),
    "model.optimizer.lr": ("lr", "learning_rate", "learningrate"),
    "model.optimizer.betas": ("beta1", "beta2", "adam_beta1", "adam_beta2"),
    "model.lr_schedule": ("lr_scheduler", "lr_scheduler_type", "scheduler"),
    "model.warmup_steps": ("warmup", "warm_up", "num_warmup_steps", "lr_warmup_steps"),
    "model.gradient_checkpointing": ("grad_checkpointing", "activation_checkpointing"),
    "model.max_sampler_gap_mean": ("max_sampler_gap",),
    "model.lora": ("lora_rank", "lora_r", "rank", "lora_alpha", "alpha", "target_modules", "peft"),
    "seed_everything": ("seed", "random_seed", "data_seed"),
    "ckpt_path": ("resume", "resume_from", "resume_from_checkpoint", "ckpt", "checkpoint"),
    "trainer.max_epochs": (
        "epochs", "epoch", "num_epochs", "num_train_epochs", "total_epochs", "rollouts", "steps",
        "max_steps", "num_steps", "total_steps", "total_training_steps", "iterations",
    ),
    "trainer.accumulate_grad_batches": (
        "micro_batch_size", "micro_batches", "gradient_accumulation", "grad_accum",
        "gradient_accumulation_steps", "per_device_train_batch_size", "batch_size",
    ),
    "trainer.devices": ("gpus", "gpu", "num_gpus", "n_gpus", "ngpus", "n_gpus_per_node", "devices"),
    "trainer.num_nodes": ("nodes", "nnodes"),
    "trainer.precision": (
        "dtype", "precision", "bf16", "fp16", "fp32", "amp", "compute_dtype", "torch_dtype",
    ),
    "trainer.gradient_clip_val": ("max_grad_norm", "grad_clip", "clip_grad", "gradient_clipping"),
    "trainer.check_val_every_n_epoch": ("eval_steps", "eval_every", "val_every", "test_freq"),
    "run.checkpoint_every": ("save_steps", "save_freq", "save_every", "checkpoint_interval"),
    "run.checkpoint_keep": ("save_total_limit", "save_top_k", "keep"),
    "logger": ("loggers", "report_to", "log_with", "wandb", "tensorboard"),
    "trainer.accelerator": ("device", "cuda", "cpu"),
    "data.prompts_per_rollout": ("batch_size", "train_batch_size", "rollout_batch_size", "prompts"),
    "data.prompts_per_mini_batch": (
        "batch_size", "mini_batch", "mini_batch_size", "minibatch_size", "ppo_mini_batch_size",
    ),
    "data.group_size": (
        "group", "groups", "n", "num_generations", "n_samples", "rollout_n", "samples",
        "samples_per_prompt", "num_return_sequences",
    ),
    "data.epochs_per_rollout": ("ppo_epochs", "num_iterations", "inner_epochs"),
    "data.max_new_tokens": (
        "max_tokens", "max_length", "max_response_length", "max_completion_length", "max_len",
        "response_length",
    ),
    "data.max_prompt_tokens": ("max_prompt_length", "prompt_length"),
    "data.validation.samples": ("val_samples", "eval_samples"),
    "benchmark": ("benchmarks", "task", "tasks", "eval", "dataset", "datasets"),
    "benchmark.samples": ("n", "k", "num_samples", "samples_per_problem"),
    "decodings": ("temperature", "top_p", "temp"),
    "task.path": ("dataset", "data_path", "train_file", "train_files", "train_data"),
    "task.validation_path": ("val_file", "val_files", "eval_file", "validation_file"),
    "objective": ("algorithm", "algo", "loss", "loss_type", "adv_estimator"),
    "objective.advantage": ("norm_adv_by_std_in_grpo", "scale_rewards"),
    "objective.kl_coef": ("kl", "beta", "kl_beta", "kl_loss_coef"),
    "objective.clip_low": ("clip", "clip_ratio", "clip_range", "epsilon", "eps_clip", "clip_eps"),
    "objective.clip_high": ("clip_ratio_high", "epsilon_high"),
    "objective.entropy_coef": ("entropy", "entropy_coeff"),
    "reward": ("reward_fn", "reward_func", "reward_function", "reward_model", "verifier"),
    "sampler": ("engine", "backend", "rollout", "vllm"),
    "run.name": ("name", "run_name", "experiment_name", "exp_name"),
    "run.logs": ("logs", "log_dir", "logdir", "output", "output_dir", "out", "save_dir", "dir"),
}  # fmt: skip
# By key: values in verl and TRL, and what they are here, if there is such a thing.
_VALUES: dict[str, dict[str, str | None]] = {
    "advantage": {
        "gae": None,  # it needs a critic
        "gdpo": None,
        "grpo_passk": None,
        "grpo_vectorized": "grpo",
        "optimal_token_baseline": "objective=otb",
        "reinforce_plus_plus": "reinforce_pp",
        "reinforce_plus_plus_baseline": "reinforce_pp_baseline",
        "remax": None,
        "rloo_vectorized": "rloo",
        "tir_optimal_token_baseline": "objective=otb, for single turns",
    },
    "kl_estimator": {"low_var_kl": "k3", "mse": "k2", "kl": "k1, which has no gradient but noise"},
}
# Flags of Lightning's Trainer that configs/fit.yaml does not set.
_TRAINER = (
    "barebones", "benchmark", "deterministic", "detect_anomaly", "enable_checkpointing",
    "gradient_clip_algorithm", "limit_val_batches", "log_every_n_steps", "max_time",
    "min_epochs", "num_nodes", "plugins", "profiler", "sync_batchnorm", "val_check_interval",
)  # fmt: skip


def keys_of_files(config_dir: Path, defaults: str, groups: dict[str, str]) -> set[str]:
    """Returns all keys that the YAML files of a command set.

    This does not import the classes that define the keys, which would take seconds.

    Args:
        config_dir: the folder of the YAML files.
        defaults: the name of the file with the defaults of the command.
        groups: the place in the config tree that the files of a folder set, by folder.
    """
    found = _leaves(yaml.safe_load((config_dir / defaults).read_text()), "")
    for folder, place in groups.items():
        for file in (config_dir / folder).glob("*.yaml"):
            found |= _leaves(yaml.safe_load(file.read_text()), place)
    if "trainer" in groups:
        found |= {f"trainer.{name}" for name in _TRAINER}
    return found


def suggest(key: str, known: Iterable[str]) -> str:
    """Returns `; did you mean x?`, or an empty text if no known key is similar.

    Keys with this name in other frameworks, and keys with the same last part, come before keys that
    are spelt alike.
    """
    known = set(known) - {key}
    parent, _, last = key.rpartition(".")
    last = last.lower().replace("-", "_")
    meant = [real for real, names in _ELSEWHERE.items() if last in names and real in known]
    same = sorted(name for name in known if name.rpartition(".")[2].lower() == last)
    meant += [name for name in same if name not in meant]
    if meant:
        return f"; did you mean {' or '.join(meant[:4])}?"
    siblings = [name for name in known if name.rpartition(".")[0] == parent]
    return nearest(key, siblings, 0.6) or nearest(key, known, 0.6)


def nearest(word: str, known: Iterable[str], cutoff: float = 0.5, whole: bool = False) -> str:
    """Returns `; did you mean x?` for the most similar word, or no text.

    Last parts are compared, or whole words: in names of files a dot does not separate parts.
    """

    def part(name: str) -> str:
        return (name if whole else name.rpartition(".")[2]).lower()

    by_part = {part(name): name for name in sorted(known, reverse=True)}
    matches = difflib.get_close_matches(part(word), by_part, n=1, cutoff=cutoff)
    return f"; did you mean {by_part[matches[0]]}?" if matches else ""


def elsewhere(key: str, value: str) -> str | None:
    """Returns what a value of a key is here that has this name in verl or TRL, or None."""
    values = _VALUES.get(key.rpartition(".")[2], {})
    if value not in values:
        return None
    meant = values[value]
    return "; that is not there" if meant is None else f"; here it is {meant}"


def _leaves(value: Any, place: str) -> set[str]:
    """Returns the dotted keys of nested mappings, without `class_path` and `init_args`."""
    if not isinstance(value, dict):
        return {place}
    found = set() if "class_path" not in value else {place}
    for key, inner in value.items():
        if key == "init_args":
            found |= _leaves(inner, place)
        elif key != "class_path":
            found |= _leaves(inner, f"{place}.{key}" if place else key)
    return found - {""}
