"""The learning rate, step by step; and what an optimizer takes from a checkpoint."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from stapo_pl.core.errors import ConfigError

ScheduleName = Literal["constant", "cosine", "linear"]
_SCHEDULES = {"constant": "constant_with_warmup", "cosine": "cosine", "linear": "linear"}


class Schedule(LambdaLR):
    """A warm-up from 0, and what follows it, as a factor of the optimizer's learning rate.

    Of a checkpoint it takes the number of steps alone. Learning rate, kind, warm-up and length are
    those of the command, so the next step has the rate that the command gives this step.

    Args:
        optimizer: whose learning rate is set.
        name: what follows the warm-up.
        warmup_steps: optimizer steps of the warm-up.
        total_steps: optimizer steps of the run.
    """

    def __init__(
        self, optimizer: Optimizer, name: ScheduleName, warmup_steps: int, total_steps: int
    ) -> None:
        # transformers gives its factors with a scheduler, which wants an optimizer of its own.
        unused = SGD([torch.zeros(1)], lr=1.0)
        made = get_scheduler(_SCHEDULES[name], unused, warmup_steps, total_steps)
        super().__init__(optimizer, made.lr_lambdas[0])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.last_epoch, self._step_count = state_dict["last_epoch"], state_dict["_step_count"]
        factors = [factor(self.last_epoch) for factor in self.lr_lambdas]
        self._last_lr = [base * factor for base, factor in zip(self.base_lrs, factors, strict=True)]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


def keep_settings(optimizer: Optimizer) -> None:
    """Lets an optimizer take its state from a checkpoint, but not its settings.

    Learning rate, betas, weight decay and the like stay those that it was made with.

    Raises:
        ConfigError: when it is loaded, the checkpoint is of another class of optimizer.
    """
    optimizer.register_load_state_dict_pre_hook(_with_own_settings)


def _with_own_settings(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    saved, own = state_dict["param_groups"], optimizer.param_groups
    if len(saved) != len(own):
        raise ConfigError("ckpt_path: the checkpoint is of another optimizer than model.optimizer")
    groups = [
        {**{k: v for k, v in mine.items() if k != "params"}, "params": theirs["params"]}
        for theirs, mine in zip(saved, own, strict=True)
    ]
    return {**state_dict, "param_groups": groups}
