"""Rounds of sampling, until a rollout has all the groups that it needs."""

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
    """Collects groups for the prompts from `cursor` on, until enough of them are kept.

    Rank r collects for the prompts at positions r, r + size, ... of each round. Which groups are
    kept, and their places, depend on positions alone and not on the number of ranks.

    Raises:
        TrainingError: dynamic sampling found too few mixed groups, and is set to raise.
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
        # Number of each mixed group among those of all ranks, by its position in the stream.
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
    """Of each prompt of a round, on all ranks, 1 if its group is mixed and 0 if it is not.

    The rewards count as they were given: with the punishment of overlong responses, groups in
    which all are right would be kept for their lengths.
    """
    rewards = torch.tensor([[t.score.reward for t in group] for group in groups], device=device)
    flags = torch.zeros(prompts, dtype=torch.long, device=device)
    flags[world.rank :: world.size] = mixed_groups(rewards).long()
    return world.sum(flags)


def _keep(rollout: Rollout, group: list[Trajectory], place: int) -> None:
    for trajectory in group:
        trajectory.place = place
    rollout.groups.append(group)


def _spread(rollout: Rollout, found: int, wanted: int) -> None:
    """Spreads too few groups evenly over a full rollout's places, and so over its mini-batches."""
    for group in rollout.groups:
        for trajectory in group:
            trajectory.place = trajectory.place * wanted // max(found, 1)
