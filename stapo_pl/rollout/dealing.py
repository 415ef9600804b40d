"""Deals the sequences of a mini-batch out to the ranks, so that no rank waits for another.

Each rank samples its own prompts. What it then has to learn from depends on the lengths of its
responses, and on how many of its groups teach at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from stapo_pl.core.types import Trajectory
from stapo_pl.core.world import World


def deal(lengths: Sequence[Sequence[int]]) -> list[list[int]]:
    """Decides which rank gets which sequence. As few sequences as possible change their rank.

    The rank with the most tokens gives a sequence to the one with the fewest, until no sequence of
    it makes their difference smaller. The two then differ by at most the shortest sequence of the
    first.

    Args:
        lengths: for each rank, the lengths of the sequences that it has, in tokens.

    Returns:
        For each rank, the new rank of each of its sequences.

    Example: the first rank has 12 tokens, and the second has 2.

        >>> deal([[4, 5, 3], [2]])
        [[0, 1, 0], [1]]
    """
    # For each rank, its sequences: who sampled it, its number there, and its length.
    held = [
        [(rank, number, length) for number, length in enumerate(of_rank)]
        for rank, of_rank in enumerate(lengths)
    ]
    totals = [sum(of_rank) for of_rank in lengths]
    while True:
        most, least = totals.index(max(totals)), totals.index(min(totals))
        difference = totals[most] - totals[least]
        movable = [sequence for sequence in held[most] if sequence[2] < difference]
        if not movable:
            break
        # A sequence of half the difference would make the two equal.
        chosen = min(movable, key=lambda sequence: abs(2 * sequence[2] - difference))
        held[most].remove(chosen)
        held[least].append(chosen)
        totals[most] -= chosen[2]
        totals[least] += chosen[2]
    owners = [[0] * len(of_rank) for of_rank in lengths]
    for owner, sequences in enumerate(held):
        for rank, number, _ in sequences:
            owners[rank][number] = owner
    return owners


def exchange(trajectories: list[Trajectory], world: World) -> list[Trajectory]:
    """Returns the trajectories of this rank after all ranks have dealt theirs out.

    Args:
        trajectories: those of a mini-batch that this rank sampled, and has to learn from.
        world: the ranks that share the mini-batch. All of them must call this together.
    """
    if world.size == 1:
        return trajectories
    lengths = [len(trajectory) for trajectory in trajectories]
    owners = deal(world.gather_objects(lengths))
    mine = owners[world.rank]
    placed = list(zip(mine, trajectories, strict=True))
    kept = [trajectory for owner, trajectory in placed if owner == world.rank]
    leaving = [(owner, trajectory) for owner, trajectory in placed if owner != world.rank]
    for part in world.gather_objects(leaving):
        kept += [trajectory for owner, trajectory in part if owner == world.rank]
    return kept
