"""From a rollout to mini-batches, and from those to micro-batches of like size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch

from stapo_pl.core.batches import MicroBatch, MiniBatch, RolloutBatch, Tokens
from stapo_pl.core.types import Rollout, Trajectory
from stapo_pl.rollout.sizes import BatchSizes


def cut(
    rollout: Rollout, version: int, sizes: BatchSizes, micro_batches: int, temperature: float
) -> RolloutBatch:
    """Cuts a rollout into the batches that it is trained on.

    Args:
        version: the optimizer step that it was sampled at.
        micro_batches: of each mini-batch, on this rank.
        temperature: that it was sampled at.
    """
    batch = RolloutBatch(rollout, version)
    for trajectories in split(rollout.groups, sizes.prompts_per_rollout, sizes.mini_batches):
        parts = deal(trajectories, micro_batches)
        ordered = [trajectory for part in parts for trajectory in part]
        micros = collate_all(parts, temperature)
        batch.mini_batches.append(MiniBatch(batch, ordered, micros, len(batch.mini_batches)))
    return batch


def split(
    groups: Sequence[list[Trajectory]], prompts_per_rollout: int, count: int
) -> list[list[Trajectory]]:
    """Deals groups out to `count` mini-batches by their places; a mini-batch may be empty."""
    batches: list[list[Trajectory]] = [[] for _ in range(count)]
    for group in groups:
        batches[group[0].place * count // prompts_per_rollout] += group
    return batches


def deal(trajectories: Sequence[Trajectory], count: int) -> list[list[Trajectory]]:
    """Deals a mini-batch out to `count` micro-batches of like token count."""
    return [
        [trajectories[i] for i in run] for run in balance([len(t) for t in trajectories], count)
    ]


def collate_all(parts: Sequence[Sequence[Trajectory]], temperature: float) -> list[MicroBatch]:
    """The micro-batches of a mini-batch; sequences are numbered through all of them."""
    firsts = accumulate((len(part) for part in parts), initial=0)
    return [collate(part, first, temperature) for part, first in zip(parts, firsts, strict=False)]


def balance(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Cuts sequences into `count` runs of like total length, sequences of like length together.

    Returns:
        Indices into `lengths`; no run is empty as long as there are `count` sequences.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    runs: list[list[int]] = []
    start, left = 0, sum(lengths)
    for remaining in range(count, 0, -1):
        share, end, taken = left / remaining, start, 0
        # Every later run still needs a sequence of its own.
        while end < len(order) - (remaining - 1) and (
            end == start or remaining == 1 or taken + lengths[order[end]] / 2 <= share
        ):
            taken += lengths[order[end]]
            end += 1
        runs.append(order[start:end])
        start, left = end, left - taken
    return runs


def collate(
    trajectories: Sequence[Trajectory], first_sequence: int, temperature: float
) -> MicroBatch:
    """Lays trajectories end to end, and their response tokens.

    Args:
        first_sequence: number of the first trajectory within its mini-batch.
    """
    if not trajectories:
        # Every rank must make the same passes: a micro-batch without sequences is one token that
        # teaches nothing.
        nothing = torch.zeros(0)
        none = torch.zeros(0, dtype=torch.long)
        ids_S = torch.zeros(1, dtype=torch.long)
        tokens = Tokens(none, none, nothing, nothing, nothing, none)
        return MicroBatch(ids_S, [1], none, tokens, temperature)
    ids: list[int] = []
    predictor, columns, start = [], [], 0
    for number, trajectory in enumerate(trajectories, first_sequence):
        prompt, completion = trajectory.prompt.token_ids, trajectory.completion
        ids += prompt + completion.token_ids
        mask = torch.tensor(trajectory.response_mask)
        places = torch.arange(len(prompt), len(trajectory))[mask]
        predictor.append(start + places - 1)
        columns.append(
            Tokens(
                token_ids_T=torch.tensor(completion.token_ids)[mask],
                sequence_T=torch.full_like(places, number),
                advantages_T=torch.full((len(places),), trajectory.advantage),
                sampler_logprobs_T=torch.tensor(completion.logprobs)[mask],
                rewards_T=torch.full((len(places),), trajectory.reward),
                group_T=torch.full_like(places, trajectory.place),
            )
        )
        start += len(trajectory)
    tokens = Tokens.cat(columns)
    lengths = [len(trajectory) for trajectory in trajectories]
    return MicroBatch(torch.tensor(ids), lengths, torch.cat(predictor), tokens, temperature)
