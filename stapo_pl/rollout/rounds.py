"""Samples in rounds until a rollout has all the groups that it needs."""

from __future__ import annotations

from collections.abc import Callable

import torch

from stapo_pl.core.errors import TrainingError
from stapo_pl.core.types import Prompt, Rollout, Trajectory
from stapo_pl.core.world import World
from stapo_pl.rollout.advantages import mixed_groups
from stapo_pl.rollout.rules import DynamicSampling
from stapo_pl.rollout.stream import PromptStream

Collect = Callable[[list[Prompt]], list[list[Trajectory]]]


def fill_rollout(
    stream: PromptStream,
    cursor: int,
    prompts_per_rollout: int,
    collect: Collect,
    dynamic_sampling: DynamicSampling | None,
    world: World,
    device: torch.device,
) -> Rollout:
    """Collects groups for the next prompts of the stream until enough groups are kept.

    All ranks must call this together. Rank r takes the prompts number r, r + size, ... of each
    round, where size is the number of ranks. Which groups are kept, and the place of each, depends
    only on positions in the stream and not on the number of ranks.

    Args:
        stream: all prompts of the run, in order.
        cursor: the position of the first prompt.
        prompts_per_rollout: the number of groups that are needed, on all ranks together. Each round
            asks as many prompts.
        collect: the function that makes one group for each prompt.
        dynamic_sampling: how often to sample again if too few groups are mixed. None keeps every
            group after one round.
        world: the ranks that make the rollout together.
        device: the device that this rank communicates on.

    Raises:
        TrainingError: too few groups are mixed after the last round, and `on_exhausted` is `raise`.
    """
    rollout = Rollout(cursor)
    kept_before = 0
    while True:
        mine = range(rollout.cursor + world.rank, rollout.cursor + prompts_per_rollout, world.size)
        groups = collect([stream[position] for position in mine])
        rollout.cursor += prompts_per_rollout
        rollout.rounds += 1
        rollout.sampled += groups
        if dynamic_sampling is None:
            for place, group in zip(
                range(world.rank, prompts_per_rollout, world.size), groups, strict=True
            ):
                _keep(rollout, group, place)
            return rollout
        flags = _flags(groups, prompts_per_rollout, world, device)
        # The mixed groups of all ranks are numbered in the order of the stream. Each rank then
        # picks out the numbers of its own groups.
        places = (kept_before + flags.cumsum(0) - 1)[world.rank :: world.size].tolist()
        mixed = flags[world.rank :: world.size].tolist()
        for group, place, is_mixed in zip(groups, places, mixed, strict=True):
            if is_mixed and place < prompts_per_rollout:
                _keep(rollout, group, place)
        found = int(flags.sum())
        rollout.discarded_groups += prompts_per_rollout - found
        kept_before += found
        if kept_before >= prompts_per_rollout:
            rollout.surplus_groups = kept_before - prompts_per_rollout
            return rollout
        if rollout.rounds == dynamic_sampling.max_rounds:
            if dynamic_sampling.on_exhausted == "train":
                _spread(rollout, kept_before, prompts_per_rollout)
                return rollout
            raise TrainingError(
                f"dynamic sampling found {kept_before} mixed groups (whose rewards differ) of the "
                f"{prompts_per_rollout} needed in {rollout.rounds} rounds; raise "
                "objective.dynamic_sampling.max_rounds, or set "
                "objective.dynamic_sampling.on_exhausted=train to train on what there is"
            )


def _flags(
    groups: list[list[Trajectory]], prompts: int, world: World, device: torch.device
) -> torch.Tensor:
    """Returns for each prompt of a round, on all ranks, 1 if its group is mixed and 0 if not.

    This uses the rewards before they are shaped. With the overlong punishment, a group in which
    every response is right would look mixed only because the lengths differ.
    """
    rewards = torch.tensor([[t.score.reward for t in group] for group in groups], device=device)
    flags = torch.zeros(prompts, dtype=torch.long, device=device)
    flags[world.rank :: world.size] = mixed_groups(rewards).long()
    return world.sum(flags)


def _keep(rollout: Rollout, group: list[Trajectory], place: int) -> None:
    """Adds a group to the groups that are trained on."""
    for trajectory in group:
        trajectory.place = place
    rollout.groups.append(group)


def _spread(rollout: Rollout, found: int, wanted: int) -> None:
    """Spreads the groups evenly over all places of a rollout that has too few groups.

    Without this, the last mini-batches would be empty, because a place decides the mini-batch.
    """
    for group in rollout.groups:
        for trajectory in group:
            trajectory.place = trajectory.place * wanted // max(found, 1)
