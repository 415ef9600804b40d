"""The range of a ratio, which several objectives clip."""

from __future__ import annotations

from dataclasses import dataclass

from stapo_pl.core.errors import ConfigError
from stapo_pl.objectives.base import Objective


@dataclass(kw_only=True)
class Clipped(Objective):
    """A base class of objectives that clip a ratio to `[1 - clip_low, 1 + clip_high]`.

    Args:
        clip_low: how far below 1 the ratio may fall. 1 sets no lower bound.
        clip_high: how far above 1 the ratio may rise.

    Raises:
        ConfigError: a clip range is out of range.
    """

    clip_low: float = 0.2
    clip_high: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.clip_low <= 1:
            raise ConfigError(f"clip_low must lie in [0, 1], got {self.clip_low}")
        if not self.clip_high >= 0:
            raise ConfigError(f"clip_high must not be negative, got {self.clip_high}")
