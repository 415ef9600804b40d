"""Checks settings of Lightning's trainer that do not work with rollouts."""

from __future__ import annotations

from typing import Any

import torch

from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.precision import compute_dtype
from stapo_pl.training.strategy import check_strategy, is_sharded


def check_trainer(trainer: Any) -> None:
    """Refuses settings of the trainer that would cut rollouts, lose updates or fail late.

    Raises:
        ConfigError: a setting is refused. The message names it.
    """
    check_strategy(trainer.strategy)
    dtype = compute_dtype(trainer.precision, on_gpu=False)
    if is_sharded(trainer.strategy) and dtype == torch.float64:
        raise ConfigError(
            f"trainer.precision={trainer.precision}: sharded weights are fp32; use auto, 32-true "
            "or bf16-mixed"
        )
    if trainer.max_steps not in (-1, None):
        raise ConfigError(
            f"trainer.max_steps={trainer.max_steps} is not supported, runs end with a whole "
            "rollout: set trainer.max_epochs, the number of rollouts"
        )
    for name, harmless in (
        ("limit_train_batches", (None, 1.0)),
        ("overfit_batches", (0.0,)),
        ("fast_dev_run", (False,)),
    ):
        value = trainer[name]
        # The whole number 1 means one batch, and 1.0 means all batches.
        if value not in harmless or type(value) is int:
            raise ConfigError(
                f"trainer.{name}={value} is not supported, it would cut rollouts: "
                "set data.prompts_per_rollout and trainer.max_epochs"
            )
    for name in ("max_epochs", "accumulate_grad_batches", "check_val_every_n_epoch"):
        if not trainer[name] or trainer[name] < 1:
            raise ConfigError(f"trainer.{name} must be at least 1, got {trainer[name]}")
    if trainer.gradient_clip_val is not None and not trainer.gradient_clip_val >= 0:
        raise ConfigError(
            f"trainer.gradient_clip_val must not be negative, got {trainer.gradient_clip_val}"
        )
    if trainer.accelerator == "mps":
        raise ConfigError("trainer.accelerator=mps has no float64, which is needed; use cpu")
    if trainer.accelerator == "auto" and torch.backends.mps.is_available():
        trainer.accelerator = "cpu"
