"""Random mini-batches, and trajectories of a few tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.draws import random_numbers
from stapo_pl.core.types import Completion, Problem, Prompt, Trajectory
from stapo_pl.rewards import Score


def random_minibatch(
    generator: torch.Generator, sequences: int = 6, longest: int = 12, dtype=torch.float64
) -> tuple[Tokens, TokenStatistics]:
    """Tokens and statistics in which rare tokens, ties and negative advantages are common."""

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=dtype)

    lengths = torch.randint(1, longest + 1, (sequences,), generator=generator)
    total = int(lengths.sum())
    sequence_T = torch.repeat_interleave(torch.arange(sequences), lengths)
    advantages = torch.randn(sequences, generator=generator, dtype=dtype).round(decimals=1)
    logprobs = -9 * rand(total)
    tokens = Tokens(
        token_ids_T=torch.randint(0, 50, (total,), generator=generator),
        sequence_T=sequence_T,
        advantages_T=advantages[sequence_T],
        sampler_logprobs_T=logprobs + 0.1 * (rand(total) - 0.5),
        old_logprobs_T=logprobs + 0.6 * (rand(total) - 0.5),
        reference_logprobs_T=logprobs + rand(total) - 0.5,
        random_T=random_numbers(range(sequences), 0, sequence_T),
    )
    # Rounded, so that ties are common.
    entropy = (3 * rand(total)).round(decimals=1)
    return tokens, TokenStatistics(logprobs, entropy, rand(total))


def trajectory(
    prompt_ids: list[int],
    response_ids: list[int],
    advantage: float = 1.0,
    *,
    mask: list[bool] | None = None,
    correct: bool = True,
    reward: float = 1.0,
    position: int = 0,
) -> Trajectory:
    return Trajectory(
        prompt=Prompt(prompt_ids, Problem([{"role": "user", "content": "?"}], "!"), position),
        completion=Completion(response_ids, [-1.0] * len(response_ids), truncated=False),
        text="",
        reward=reward,
        score=Score(reward, correct, None),
        response_mask=mask or [True] * len(response_ids),
        advantage=advantage,
    )
