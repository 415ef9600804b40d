"""How a policy is validated: greedy once, and sampled k times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stapo_pl.errors import ConfigError
from stapo_pl.types import Decoding, Prompt, Trajectory, ValidationBatch

Sampling = Callable[[Sequence[Prompt]], list[list[Trajectory]]]


@dataclass
class Validation:
    """Settings of a validation.

    Args:
        samples: sampled responses a prompt, k of avg@k and pass@k.
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
        prompts: Sequence[Prompt],
        count: int,
        max_new_tokens: int,
        sampling: Callable[[int, Decoding], Sampling],
    ) -> Iterator[ValidationBatch]:
        """Verdicts on a rank's prompts, `count` batches of them.

        Args:
            sampling: makes what samples groups of a given size.
        """
        greedy = sampling(1, Decoding(max_new_tokens, temperature=0.0))
        sampled = sampling(self.samples, Decoding(max_new_tokens, self.temperature, self.top_p))
        for i in range(count):
            mine = prompts[i * self.prompts_per_batch :][: self.prompts_per_batch]
            yield ValidationBatch(
                greedy_correct_P=_correct(greedy(mine), 1)[:, 0],
                correct_PG=_correct(sampled(mine), self.samples),
            )


def _correct(groups: list[list[Trajectory]], group_size: int) -> Tensor:
    """Verdicts [P, G]; there may be no prompt."""
    verdicts = [[t.correct for t in group] for group in groups]
    return torch.tensor(verdicts, dtype=torch.bool).view(-1, group_size)
