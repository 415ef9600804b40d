"""Reinforcement learning with verifiable rewards on PyTorch Lightning, built around STAPO.

A run without the command line, which has the same defaults:

    from functools import partial

    import torch

    from stapo_pl import Arithmetic, PolicyModule, RolloutDataModule, RolloutTrainer, Run, STAPO

    module = PolicyModule(STAPO(), partial(torch.optim.AdamW, lr=4e-4, weight_decay=0.0))
    data = RolloutDataModule(Arithmetic(), max_prompt_tokens=32, max_new_tokens=96)
    trainer = RolloutTrainer(max_epochs=75, run=Run(name="mine"))
    trainer.fit(module, data)  # logs/mine/version_0; ckpt_path="last" goes on
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stapo_pl.objectives import (
        DAPO,
        GRPO,
        S2T,
        STAPO,
        DrGRPO,
        Entropy20,
        JustRL,
        Objective,
        Selection,
        TopEntropy,
    )
    from stapo_pl.rewards import (
        GSM8K,
        DAPORule,
        Exact,
        Format,
        Function,
        Length,
        Math,
        ReasoningGymScore,
        Reward,
        Weighted,
    )
    from stapo_pl.samplers import Sampler, TransformersSampler, VLLMSampler
    from stapo_pl.tasks import Arithmetic, Benchmark, Dataset, ReasoningGym, Task
    from stapo_pl.training.callbacks import SamplerCallback
    from stapo_pl.training.datamodule import RolloutDataModule
    from stapo_pl.training.module import PolicyModule
    from stapo_pl.training.runs import Run
    from stapo_pl.training.trainer import RolloutTrainer

# Each is imported when it is asked for: the command answers a misspelt word before that.
_PLACES = {
    "objectives": (
        "DAPO", "DrGRPO", "Entropy20", "GRPO", "JustRL", "Objective", "S2T", "STAPO", "Selection",
        "TopEntropy",
    ),
    "rewards": (
        "DAPORule", "Exact", "Format", "Function", "GSM8K", "Length", "Math", "ReasoningGymScore",
        "Reward", "Weighted",
    ),
    "samplers": ("Sampler", "TransformersSampler", "VLLMSampler"),
    "tasks": ("Arithmetic", "Benchmark", "Dataset", "ReasoningGym", "Task"),
    "training.callbacks": ("SamplerCallback",),
    "training.datamodule": ("RolloutDataModule",),
    "training.module": ("PolicyModule",),
    "training.runs": ("Run",),
    "training.trainer": ("RolloutTrainer",),
}  # fmt: skip
_MODULES = {name: f"{__name__}.{place}" for place, names in _PLACES.items() for name in names}
__all__ = [
    "DAPO",
    "GRPO",
    "GSM8K",
    "S2T",
    "STAPO",
    "Arithmetic",
    "Benchmark",
    "DAPORule",
    "Dataset",
    "DrGRPO",
    "Entropy20",
    "Exact",
    "Format",
    "Function",
    "JustRL",
    "Length",
    "Math",
    "Objective",
    "PolicyModule",
    "ReasoningGym",
    "ReasoningGymScore",
    "Reward",
    "RolloutDataModule",
    "RolloutTrainer",
    "Run",
    "Sampler",
    "SamplerCallback",
    "Selection",
    "Task",
    "TopEntropy",
    "TransformersSampler",
    "VLLMSampler",
    "Weighted",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
