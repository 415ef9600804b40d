"""How a policy is validated: greedy once, and sampled k times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stapo_pl.core.batches import ValidationBatch
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Decoding, Prompt, Trajectory
from stapo_pl.evaluation.figures import validation_figures

Collect = Callable[[Sequence[Prompt], int, Decoding], list[list[Trajectory]]]


@dataclass
class Validation:
    """Settings of a validation.

    Args:
        samples: sampled responses a prompt, k of avg@k, pass@k and maj@k, where a benchmark has no
            number of its own.
        temperature: of those responses.
        top_p: likewise.
        prompts_per_batch: prompts that are sampled at a time, on each rank.

    Raises:
        ConfigError: a value out of range.
    """

    samples: int = 4
    temperature: float = 1.0
    top_p: float = 1.0
    prompts_per_batch: int = 64

    def __post_init__(self) -> None:
        for name in ("samples", "prompts_per_batch"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"data.validation.{name} must be at least 1, got {getattr(self, name)}"
                )
        if not self.temperature > 0 or not 0 < self.top_p <= 1:
            raise ConfigError(
                "data.validation needs temperature > 0 and 0 < top_p <= 1, got "
                f"temperature={self.temperature}, top_p={self.top_p}"
            )

    def count_batches(self, prompts: int, ranks: int) -> int:
        """Batches of each rank; the same on all, so the last ones may be empty on some."""
        return -(-prompts // (self.prompts_per_batch * ranks))

    def batches(
        self,
        name: str,
        prompts: Sequence[Prompt],
        count: int,
        samples: int,
        max_new_tokens: int,
        collect: Collect,
    ) -> Iterator[ValidationBatch]:
        """Verdicts on a rank's prompts of one task, `count` batches of them.

        Args:
            name: of the task.
            samples: k.
            collect: samples groups of a given size with a given decoding, and grades them.
        """
        greedy = Decoding(max_new_tokens, temperature=0.0)
        sampled = Decoding(max_new_tokens, self.temperature, self.top_p)
        for i in range(count):
            mine = prompts[i * self.prompts_per_batch :][: self.prompts_per_batch]
            yield ValidationBatch(
                name, validation_figures(collect(mine, 1, greedy), collect(mine, samples, sampled))
            )


def over_tasks(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Means of the tasks that a validation was made on.

    Args:
        values: the mean of each metric of each task, named `task/metric`.

    Returns:
        Of each metric, its mean over the tasks; and where there are several tasks, all values.
    """
    tasks, metrics = ({name.rpartition("/")[i]: None for name in values} for i in (0, 2))
    means = {
        metric: torch.stack([values[f"{task}/{metric}"] for task in tasks]).mean()
        for metric in metrics
    }
    return means | (values if len(tasks) > 1 else {})
