"""Validation during training: one response at temperature 0 and k sampled ones for each prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stapo_pl.core.batches import ValidationBatch
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Decoding, Prompt, Trajectory
from stapo_pl.evaluation.figures import greedy_figures, sampled_figures

Collect = Callable[[Sequence[Prompt], int, Decoding], list[list[Trajectory]]]


@dataclass
class Validation:
    """The settings of validations.

    Args:
        samples: the number of sampled responses to each prompt, which is the k of avg@k, pass@k and
            maj@k. A benchmark can set another number.
        temperature: the temperature of the sampled responses.
        top_p: the share of probability that can be drawn for the sampled responses.
        more_decodings: other temperatures and top-p to sample with, each a pair. The names of their
            metrics end in the decoding, such as `accuracy@T0.7-p0.9`.
        max_new_tokens: the largest number of tokens of a response. None is that of training.
        prompts_per_batch: the number of prompts that each rank samples at a time.

    Raises:
        ConfigError: a value is out of range.
    """

    samples: int = 4
    temperature: float = 1.0
    top_p: float = 1.0
    more_decodings: list[tuple[float, float]] = field(default_factory=list)
    max_new_tokens: int | None = None
    prompts_per_batch: int = 64

    def __post_init__(self) -> None:
        for name in ("samples", "prompts_per_batch"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"data.validation.{name} must be at least 1, got {getattr(self, name)}"
                )
        for temperature, top_p in self.sampled:
            if not temperature > 0 or not 0 < top_p <= 1:
                raise ConfigError(
                    "data.validation needs temperature > 0 and 0 < top_p <= 1, got "
                    f"temperature={temperature}, top_p={top_p}"
                )
        if len({*map(tuple, self.sampled)}) < len(self.sampled):
            raise ConfigError(
                "data.validation.more_decodings: a decoding is there twice; "
                f"temperature and top_p are {', '.join(map(str, self.sampled))}"
            )
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ConfigError(
                f"data.validation.max_new_tokens must be at least 1, got {self.max_new_tokens}"
            )

    @property
    def sampled(self) -> list[tuple[float, float]]:
        """The temperature and top-p of each decoding that samples."""
        return [(self.temperature, self.top_p), *self.more_decodings]

    def limit(self, max_new_tokens: int) -> int:
        """Returns the largest number of tokens of a response, given that of training."""
        return max_new_tokens if self.max_new_tokens is None else self.max_new_tokens

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
            max_new_tokens: the largest number of tokens of a response in training.
            collect: a function that samples and grades groups. It is called with prompts, the size
                of a group, and a decoding.
        """
        limit = self.limit(max_new_tokens)
        greedy = Decoding(limit, temperature=0.0)
        first, *others = (Decoding(limit, *pair) for pair in self.sampled)
        for i in range(count):
            mine = prompts[i * self.prompts_per_batch :][: self.prompts_per_batch]
            figures = greedy_figures(collect(mine, 1, greedy))
            figures |= sampled_figures(collect(mine, samples, first))
            for decoding in others:
                more = sampled_figures(collect(mine, samples, decoding))
                figures |= {f"{key}@{decoding.name}": value for key, value in more.items()}
            yield ValidationBatch(name, figures)


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
