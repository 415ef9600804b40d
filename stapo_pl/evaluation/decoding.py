"""How benchmarks are sampled."""

from __future__ import annotations

from dataclasses import dataclass

from stapo_pl.core.errors import ConfigError


@dataclass
class Nucleus:
    """A decoding.

    Args:
        temperature: 0 is greedy.
        top_p: nucleus.

    Raises:
        ConfigError: a value out of range.
    """

    temperature: float
    top_p: float

    def __post_init__(self) -> None:
        if not self.temperature >= 0 or not 0 < self.top_p <= 1:
            raise ConfigError(
                "decodings need temperature >= 0 and 0 < top-p <= 1, got "
                f"[{self.temperature:g}, {self.top_p:g}]"
            )

    @property
    def name(self) -> str:
        """Of its folder and rows."""
        return f"T{self.temperature:g}-p{self.top_p:g}"
