"""What a policy is measured on."""

from __future__ import annotations

from dataclasses import dataclass

from stapo_pl.core.errors import ConfigError
from stapo_pl.tasks.base import Task


@dataclass
class Benchmark:
    """A task's validation problems, and how often each is sampled.

    Args:
        task: its problems and the reward that judges answers.
        samples: of each problem, with each decoding.

    Raises:
        ConfigError: `samples` below 1.
    """

    task: Task
    samples: int = 4

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"benchmark.samples must be at least 1, got {self.samples}")
