"""The learning rate of each step, and what an optimizer takes from a checkpoint."""

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
    """Multiplies the optimizer's learning rate by a factor: a warm-up from 0, then `name`.

    From a checkpoint it takes only the number of steps. The learning rate, the kind of schedule,
    the warm-up and the length come from the settings of the run. So after a resume, each step has
    the rate that the settings give for its number.

    Args:
        optimizer: the optimizer whose learning rate is set.
        name: the kind of schedule after the warm-up.
        warmup_steps: number of optimizer steps of the warm-up.
        total_steps: number of optimizer steps of the run.
    """

    def __init__(
        self, optimizer: Optimizer, name: ScheduleName, warmup_steps: int, total_steps: int
    ) -> None:
        # transformers has the factors inside a scheduler, which needs an optimizer.
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
    """Makes an optimizer take its state from a checkpoint, but keep its own settings.

    Such settings are the learning rate, betas and weight decay.

    Raises:
        ConfigError: raised when a checkpoint of another optimizer is loaded.
    """
    optimizer.register_load_state_dict_pre_hook(_with_own_settings)


def _with_own_settings(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    saved, own = state_dict["param_groups"], optimizer.param_groups
    if len(saved) != len(own):
        raise ConfigError("ckpt_path: the checkpoint is of another optimizer than model.optimizer")
    groups = [
        {**{k: v for k, v in group.items() if k != "params"}, "params": saved_group["params"]}
        for saved_group, group in zip(saved, own, strict=True)
    ]
    return {**state_dict, "param_groups": groups}
