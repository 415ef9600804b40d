"""Lightning's trainer, with one setting for what passes compute in."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.accelerators import Accelerator, CUDAAccelerator
from lightning.pytorch.strategies import Strategy

from stapo_pl.precision import PRECISIONS, compute_dtype
from stapo_pl.strategy import FSDP


class RolloutTrainer(L.Trainer):
    """A trainer whose passes compute in the same, whatever the strategy.

    Args:
        precision: `auto` is bf16-mixed on a GPU and 32-true on a CPU. Weights, gradients and
            optimizer state are fp32 either way (fp64 with 64-true).
    """

    def __init__(
        self,
        *,
        accelerator: str | Accelerator = "auto",
        strategy: Strategy | str = "auto",
        precision: str | int | None = "auto",
        **kwargs: Any,
    ) -> None:
        on_gpu = accelerator in ("gpu", "cuda") or isinstance(accelerator, CUDAAccelerator)
        on_gpu |= accelerator == "auto" and torch.cuda.is_available()
        computes_in = compute_dtype(precision, on_gpu)
        if on_gpu and computes_in == torch.bfloat16:
            # What is left in fp32 takes the tensor cores, too.
            torch.set_float32_matmul_precision("high")
        if isinstance(strategy, FSDP):
            strategy.compute_dtype = computes_in  # it casts its shards itself
            computes_in = torch.float32
        (name,) = (name for name, dtype in PRECISIONS.items() if dtype == computes_in)
        super().__init__(accelerator=accelerator, strategy=strategy, precision=name, **kwargs)
