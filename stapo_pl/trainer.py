"""Lightning's trainer, with what this package knows to work."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

import lightning as L
import torch
from jsonargparse import Namespace
from lightning.pytorch.accelerators import Accelerator, CUDAAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy, Strategy

from stapo_pl.errors import ConfigError
from stapo_pl.strategy import DDP, FSDP

_PRECISIONS = {
    "32-true": torch.float32,
    "bf16-mixed": torch.bfloat16,
    "64-true": torch.float64,
}


class RolloutTrainer(L.Trainer):
    """A trainer with one setting for what passes compute in, whatever the strategy.

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
        if isinstance(strategy, FSDP):
            strategy.compute_dtype = computes_in  # casts its shards itself, see FSDP
            computes_in = torch.float32
        elif on_gpu and computes_in == torch.bfloat16:
            # What autocast leaves in fp32 takes the tensor cores, too.
            torch.set_float32_matmul_precision("high")
        (name,) = (name for name, dtype in _PRECISIONS.items() if dtype == computes_in)
        super().__init__(accelerator=accelerator, strategy=strategy, precision=name, **kwargs)


def compute_dtype(precision: str | int | None, on_gpu: bool) -> torch.dtype:
    """What passes compute in with this `trainer.precision`.

    Raises:
        ConfigError: not in what is supported.
    """
    name = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed"}.get(str(precision), precision)
    if name in ("auto", None):
        return torch.bfloat16 if on_gpu else torch.float32
    if name not in _PRECISIONS:
        raise ConfigError(
            f"trainer.precision={precision} is not supported: half-precision weights lose updates "
            f"as small as those of reinforcement learning; use auto, {', '.join(_PRECISIONS)}"
        )
    return _PRECISIONS[name]


def check_strategy(strategy: Namespace | str | None) -> None:
    """Refuses strategies that would hand the sampler shards, others that nobody has tried, and a
    timeout that is none.

    Raises:
        ConfigError: names what there is in its place.
    """
    name = getattr(strategy, "class_path", strategy)
    known = name in ("auto", "ddp", None)
    if not known and "." in name:
        known = issubclass(resolve_name(name), (DDP, FSDP, SingleDeviceStrategy))
    if not known:
        raise ConfigError(
            f"trainer.strategy={name} is not supported: samplers are to get whole weights. "
            "trainer=fsdp shards the policy, trainer=ddp keeps all of it on every rank"
        )
    timeout = getattr(getattr(strategy, "init_args", None), "timeout", None)
    if timeout is not None and not timeout > 0:
        raise ConfigError(f"trainer.strategy.timeout must be more than 0 hours, got {timeout}")
