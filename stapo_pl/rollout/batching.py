"""Cuts a rollout into mini-batches, and a mini-batch into micro-batches of similar size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch

from stapo_pl.core.batches import MicroBatch, MiniBatch, RolloutBatch, Tokens
from stapo_pl.core.types import Rollout, Trajectory
from stapo_pl.core.world import World
from stapo_pl.rollout.dealing import exchange
from stapo_pl.rollout.pruning import Pruning
from stapo_pl.rollout.sizes import BatchSizes


def cut(
    rollout: Rollout,
    version: int,
    number: int,
    sizes: BatchSizes,
    micro_batches: int,
    temperature: float,
    pruning: Pruning | None,
    world: World,
    max_tokens: int | None = None,
) -> RolloutBatch:
    """Cuts a rollout into the mini-batches and micro-batches that training visits.

    Args:
        rollout: the groups that this rank sampled, and that are trained on.
        version: the number of the optimizer step after which the rollout was sampled.
        number: the number of the rollout in the run.
        sizes: the sizes of rollout and mini-batches over all ranks.
        micro_batches: the number of micro-batches of each mini-batch on this rank, unless there
            is a largest size.
        temperature: the temperature that the rollout was sampled at.
        pruning: chooses which trajectories are passed through the policy. None passes all.
        world: the ranks that share the rollout. They exchange trajectories, so that each has about
            as many tokens to pass as the others. All of them must call this together.
        max_tokens: the largest size of a micro-batch in tokens, with padding. Each mini-batch is
            cut into as many as the rank with the most tokens needs. None cuts all into equally
            many.
    """
    batch = RolloutBatch(rollout, version)
    for trajectories in split(rollout.groups, sizes.prompts_per_rollout, sizes.mini_batches):
        place = len(batch.mini_batches)
        left_out: list[list[Trajectory]] = []
        if pruning is not None:
            trajectories, others = pruning.leave_out(trajectories, number, place)
            # As many on every rank, also where none is left out: they may all have a pass.
            left_out = spread(others, _count(others, micro_batches, max_tokens, world))
        trajectories = exchange(trajectories, world)
        parts = spread(trajectories, _count(trajectories, micro_batches, max_tokens, world))
        ordered = [trajectory for part in parts for trajectory in part]
        micros = collate_all(parts, temperature)
        rest = collate_all(left_out, temperature, len(ordered))
        silent = [trajectory for part in left_out for trajectory in part]
        batch.mini_batches.append(MiniBatch(batch, ordered, micros, rest, silent, place))
    return batch


def _count(
    trajectories: Sequence[Trajectory], fixed: int, max_tokens: int | None, world: World
) -> int:
    """Returns how many micro-batches each rank has, so that none needs more."""
    if max_tokens is None:
        return fixed
    own = runs_needed([len(trajectory) for trajectory in trajectories], max_tokens)
    return max(world.gather_objects(own))


def split(
    groups: Sequence[list[Trajectory]], prompts_per_rollout: int, count: int
) -> list[list[Trajectory]]:
    """Distributes the groups over `count` mini-batches by their places.

    A group is never split. A mini-batch can be empty on this rank.
    """
    batches: list[list[Trajectory]] = [[] for _ in range(count)]
    for group in groups:
        batches[group[0].place * count // prompts_per_rollout] += group
    return batches


def spread(trajectories: Sequence[Trajectory], count: int) -> list[list[Trajectory]]:
    """Distributes a mini-batch over `count` micro-batches that have similar numbers of tokens."""
    return [
        [trajectories[i] for i in run] for run in balance([len(t) for t in trajectories], count)
    ]


def collate_all(
    parts: Sequence[Sequence[Trajectory]], temperature: float, first_sequence: int = 0
) -> list[MicroBatch]:
    """Makes micro-batches of a mini-batch. Sequence numbers go on from one to the next."""
    firsts = accumulate((len(part) for part in parts), initial=first_sequence)
    return [collate(part, first, temperature) for part, first in zip(parts, firsts, strict=False)]


def balance(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Distributes sequences over `count` runs, so that the largest run is as small as can be.

    The size of a run is the number of its sequences times the longest of them, which is what a pass
    with padding computes. Sequences are sorted by length first, so that a run holds sequences of
    similar length and needs little padding.

    Args:
        lengths: the number of tokens of each sequence.
        count: the number of runs.

    Returns:
        For each run, indices into `lengths`. No run is empty if there are at least `count`
        sequences.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    sorted_lengths = [lengths[i] for i in order]
    low, high = 1, max(sorted_lengths[:1], default=1) * max(len(order), 1)
    while low < high:  # the smallest size that suffices
        size = (low + high) // 2
        if _ends(sorted_lengths, count, size)[-1] == len(order):
            high = size
        else:
            low = size + 1
    ends = _ends(sorted_lengths, count, low)
    return [order[start:end] for start, end in pairwise([0, *ends])]


def runs_needed(lengths: Sequence[int], size: int) -> int:
    """Returns the number of runs that `balance` needs, so that none is larger than `size`.

    There is at least one, and a sequence that is larger has a run of its own.
    """
    ordered, count, end = sorted(lengths, reverse=True), 0, 0
    while end < len(ordered):
        end += max(size // ordered[end], 1)
        count += 1
    return max(count, 1)


def _ends(lengths: Sequence[int], count: int, size: int) -> list[int]:
    """Returns where runs end that have at most this size, or one sequence.

    Args:
        lengths: the lengths of the sequences, the longest first.
        count: the number of runs. Each gets a sequence if there are enough.
        size: the largest number of sequences of a run, times the longest of them.
    """
    ends, end = [], 0
    for later in range(count - 1, -1, -1):
        left = len(lengths) - end
        if left:
            fits = max(size // lengths[end], 1)
            end += max(min(fits, left - later), 1)
        ends.append(end)
    return ends


def collate(
    trajectories: Sequence[Trajectory], first_sequence: int, temperature: float
) -> MicroBatch:
    """Lays trajectories end to end to make a micro-batch.

    Args:
        trajectories: the sequences of the micro-batch. There may be none.
        first_sequence: the number of the first trajectory within its mini-batch.
        temperature: the temperature that the rollout was sampled at.
    """
    if not trajectories:
        # Every rank must make the same number of passes, or the others would wait for ever. A
        # micro-batch without sequences is therefore one token that teaches nothing.
        nothing = torch.zeros(0)
        none = torch.zeros(0, dtype=torch.long)
        ids_S = torch.zeros(1, dtype=torch.long)
        tokens = Tokens(none, none, nothing, nothing, nothing, nothing, none)
        return MicroBatch(ids_S, [1], none, tokens, temperature)
    ids: list[int] = []
    response_ids: list[int] = []
    logprobs: list[float] = []
    mask: list[bool] = []
    predictor: list[int] = []
    for trajectory in trajectories:
        completion = trajectory.completion
        ids += trajectory.prompt.token_ids
        # The model's output at one position predicts the token at the next.
        predictor += range(len(ids) - 1, len(ids) - 1 + len(completion.token_ids))
        ids += completion.token_ids
        response_ids += completion.token_ids
        logprobs += completion.logprobs
        mask += trajectory.response_mask
    chosen = torch.tensor(mask)
    counts = torch.tensor([len(t.completion.token_ids) for t in trajectories])
    row_T = torch.arange(len(trajectories)).repeat_interleave(counts)[chosen]
    tokens = Tokens(
        token_ids_T=torch.tensor(response_ids)[chosen],
        sequence_T=row_T + first_sequence,
        advantages_T=torch.tensor([t.advantage for t in trajectories])[row_T],
        sampler_logprobs_T=torch.tensor(logprobs)[chosen],
        curve_weights_T=torch.tensor([t.curve_weight for t in trajectories])[row_T],
        rewards_T=torch.tensor([t.reward for t in trajectories])[row_T],
        group_T=torch.tensor([t.place for t in trajectories])[row_T],
    )
    lengths = [len(trajectory) for trajectory in trajectories]
    return MicroBatch(
        torch.tensor(ids), lengths, torch.tensor(predictor)[chosen], tokens, temperature
    )
