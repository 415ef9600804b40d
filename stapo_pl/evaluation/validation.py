"""How a policy is validated: greedy once, and sampled k times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from stapo_pl.core.batches import ValidationBatch
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Decoding, Prompt, Trajectory
from stapo_pl.evaluation.estimators import majority_at_k

Sampling = Callable[[Sequence[Prompt]], list[list[Trajectory]]]


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
        sampling: Callable[[int, Decoding], Sampling],
    ) -> Iterator[ValidationBatch]:
        """Verdicts on a rank's prompts of one task, `count` batches of them.

        Args:
            name: of the task.
            samples: k.
            sampling: makes what samples groups of a given size.
        """
        greedy = sampling(1, Decoding(max_new_tokens, temperature=0.0))
        sampled = sampling(samples, Decoding(max_new_tokens, self.temperature, self.top_p))
        for i in range(count):
            mine = prompts[i * self.prompts_per_batch :][: self.prompts_per_batch]
            yield ValidationBatch(name, _values(greedy(mine), sampled(mine)))


def _values(
    greedy: list[list[Trajectory]], sampled: list[list[Trajectory]]
) -> dict[str, torch.Tensor]:
    """Of each metric, its values [prompts]; there may be no prompt."""
    samples = [(group, [t.score for t in group]) for group in sampled]
    values = {
        "accuracy_greedy": [group[0].correct for group in greedy],
        "accuracy": [fmean(s.correct for s in scores) for _, scores in samples],
        "pass_at_k": [any(s.correct for s in scores) for _, scores in samples],
        "majority_at_k": [majority_at_k(scores) for _, scores in samples],
        "truncated_fraction": [
            fmean(t.completion.truncated for t in group) for group, _ in samples
        ],
        "unparsed_fraction": [fmean(s.extracted is None for s in scores) for _, scores in samples],
    }
    return {name: torch.tensor(list_P, dtype=torch.float32) for name, list_P in values.items()}
