"""A benchmark: the problems that a policy is evaluated on."""

from __future__ import annotations

from dataclasses import dataclass

from stapo_pl.core.errors import ConfigError
from stapo_pl.tasks.base import Task


@dataclass
class Benchmark:
    """A task's validation problems, and how often each is sampled.

    Args:
        task: gives the problems, and the reward that judges responses.
        samples: number of responses to each problem with each decoding.

    Raises:
        ConfigError: `samples` is below 1.
    """

    task: Task
    samples: int = 4

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"benchmark.samples must be at least 1, got {self.samples}")
