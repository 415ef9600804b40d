"""The types that forward and backward passes may compute in."""

from __future__ import annotations

from typing import Literal

import torch

from stapo_pl.core.errors import ConfigError

PRECISIONS: dict[Literal["32-true", "bf16-mixed", "64-true"], torch.dtype] = {
    "32-true": torch.float32,
    "bf16-mixed": torch.bfloat16,
    "64-true": torch.float64,
}
"""The supported types, by Lightning's names for them."""


def compute_dtype(precision: str | int | None, on_gpu: bool) -> torch.dtype:
    """The type that passes compute in with this `trainer.precision`.

    Raises:
        ConfigError: the precision is not supported.
    """
    name = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed"}.get(str(precision), precision)
    if name in ("auto", None):
        return torch.bfloat16 if on_gpu else torch.float32
    for known, dtype in PRECISIONS.items():
        if name == known:
            return dtype
    raise ConfigError(
        f"trainer.precision={precision} is not supported: half-precision weights lose updates "
        f"as small as those of reinforcement learning; use auto, {', '.join(PRECISIONS)}"
    )
