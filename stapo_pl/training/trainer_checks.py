"""Checks settings of Lightning's trainer that do not work with rollouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.precision import compute_dtype
from stapo_pl.training.strategy import DDP, FSDP


def check_strategy(strategy: type | str | None) -> None:
    """Refuses a strategy that is not supported.

    A strategy that is not supported would send shares of weights to the sampler, or has not been
    tried.

    Args:
        strategy: the class of the strategy, or its name in Lightning.

    Raises:
        ConfigError: the message names the supported strategies.
    """
    if isinstance(strategy, type):
        name, known = strategy.__name__, issubclass(strategy, (DDP, FSDP, SingleDeviceStrategy))
    else:
        name, known = str(strategy), strategy in ("auto", "ddp", None)
    if not known:
        raise ConfigError(
            f"trainer.strategy={name} is not supported: samplers are to get whole weights. "
            "trainer=fsdp shards the policy, trainer=ddp keeps all of it on every rank"
        )


def check_trainer(settings: Mapping[str, Any]) -> None:
    """Refuses settings of the trainer that would cut rollouts, lose updates or fail late.

    Args:
        settings: the arguments of the trainer by their names. Missing ones have their defaults.

    Raises:
        ConfigError: a setting is refused. The message names it.
    """
    strategy, precision = settings["strategy"], settings["precision"]
    check_strategy(strategy if isinstance(strategy, str | None) else type(strategy))
    is_double = compute_dtype(precision, on_gpu=False) == torch.float64
    if isinstance(strategy, FSDP) and is_double:
        raise ConfigError(
            f"trainer.precision={precision}: sharded weights are fp32; use auto, 32-true "
            "or bf16-mixed"
        )
    if (steps := settings.get("max_steps", -1)) not in (-1, None):
        raise ConfigError(
            f"trainer.max_steps={steps} is not supported, runs end with a whole "
            "rollout: set trainer.max_epochs, the number of rollouts"
        )
    for name, harmless in (
        ("limit_train_batches", (None, 1.0)),
        ("overfit_batches", (0.0,)),
        ("fast_dev_run", (False,)),
    ):
        value = settings.get(name, harmless[0])
        # The whole number 1 means one batch, and 1.0 means all batches.
        if value not in harmless or type(value) is int:
            raise ConfigError(
                f"trainer.{name}={value} is not supported, it would cut rollouts: "
                "set data.prompts_per_rollout and trainer.max_epochs"
            )
    for name in ("max_epochs", "accumulate_grad_batches", "check_val_every_n_epoch"):
        if not (value := settings[name]) or value < 1:
            raise ConfigError(f"trainer.{name} must be at least 1, got {value}")
    clip = settings["gradient_clip_val"]
    if clip is not None and not clip >= 0:
        raise ConfigError(f"trainer.gradient_clip_val must not be negative, got {clip}")
    if settings["accelerator"] == "mps":
        raise ConfigError("trainer.accelerator=mps has no float64, which is needed; use cpu")
