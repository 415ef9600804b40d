"""The settings of grading: how many processes judge, and what one response may use."""

from __future__ import annotations

import os
from dataclasses import dataclass

from stapo_pl.core.errors import ConfigError


@dataclass
class Grading:
    """How responses are judged.

    Args:
        workers: number of processes on each rank that judge at the same time. None means one for
            each CPU core of the rank's share, and at most 8.
        time_limit: seconds that a reward may take for one response.
        memory_gib: GiB of memory that a worker may take beyond what it has when it is ready.

    Raises:
        ConfigError: a value is out of range.
    """

    workers: int | None = None
    time_limit: float = 5.0
    memory_gib: float = 2.0

    def __post_init__(self) -> None:
        for name in ("workers", "time_limit", "memory_gib"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"grading.{name} must be positive, got {value}")

    def count(self, ranks: int) -> int:
        """The number of workers on each rank, where `ranks` ranks share this machine."""
        has_affinity = hasattr(os, "sched_getaffinity")
        cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
        return self.workers or max(1, min(8, cores // ranks))
