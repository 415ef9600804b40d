"""Validation during training: one response at temperature 0 and k sampled ones for each prompt."""

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
    """The settings of validations.

    Args:
        samples: the number of sampled responses to each prompt, which is the k of avg@k, pass@k and
            maj@k. A benchmark can set another number.
        temperature: the temperature of the sampled responses.
        top_p: the share of probability that can be drawn for the sampled responses.
        prompts_per_batch: the number of prompts that each rank samples at a time.

    Raises:
        ConfigError: a value is out of range.
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
        """Returns the number of batches of each rank.

        It is the same on all ranks, so the last batch can be empty on some of them.
        """
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
        """Samples and grades this rank's prompts of one benchmark, and yields the figures.

        Args:
            name: the name of the benchmark.
            prompts: the prompts of this rank.
            count: the number of batches.
            samples: k, the number of sampled responses to each prompt.
            max_new_tokens: the largest number of tokens of a response.
            collect: a function that samples and grades groups. It is called with prompts, the size
                of a group, and a decoding.
        """
        greedy = Decoding(max_new_tokens, temperature=0.0)
        sampled = Decoding(max_new_tokens, self.temperature, self.top_p)
        for i in range(count):
            mine = prompts[i * self.prompts_per_batch :][: self.prompts_per_batch]
            yield ValidationBatch(
                name, validation_figures(collect(mine, 1, greedy), collect(mine, samples, sampled))
            )


def over_tasks(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Averages metrics over the benchmarks of a validation.

    Args:
        values: the mean of each metric of each benchmark, named `benchmark/metric`.

    Returns:
        The mean of each metric over the benchmarks. If there are several benchmarks, the given
        values are returned too.
    """
    tasks, metrics = ({name.rpartition("/")[i]: None for name in values} for i in (0, 2))
    means = {
        metric: torch.stack([values[f"{task}/{metric}"] for task in tasks]).mean()
        for metric in metrics
    }
    return means | (values if len(tasks) > 1 else {})
