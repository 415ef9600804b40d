"""Ranks exchange sequences so that each has about as much to learn from."""

from __future__ import annotations

import random

import pytest
import torch
import torch.distributed as dist

from stapo_pl.core.world import World
from stapo_pl.rollout.dealing import deal, exchange
from support.carriers import trajectory
from support.commands import fork


def totals(lengths, owners) -> list[int]:
    sums = [0] * len(lengths)
    for of_rank, new in zip(lengths, owners, strict=True):
        for length, owner in zip(of_rank, new, strict=True):
            sums[owner] += length
    return sums


@pytest.mark.parametrize("ranks", [1, 2, 5, 16])
def test_ranks_differ_by_less_than_one_sequence(ranks):
    for seed in range(30):
        draw = random.Random(seed)
        lengths = [
            [draw.randint(1, 4000) for _ in range(draw.choice([0, 3, 40]))] for _ in range(ranks)
        ]
        owners = deal(lengths)
        sums = totals(lengths, owners)
        assert sum(sums) == sum(map(sum, lengths))
        held = [
            length
            for of_rank, new in zip(lengths, owners, strict=True)
            for length, owner in zip(of_rank, new, strict=True)
            if owner == sums.index(max(sums))
        ]
        # Giving away any sequence would make another rank the one with the most.
        assert max(sums) - min(sums) <= min(held, default=0)


def test_few_sequences_change_their_rank():
    assert deal([[4, 5, 3], [2]]) == [[0, 1, 0], [1]]
    assert deal([[7, 7], [6, 8]]) == [[0, 0], [1, 1]]
    assert deal([[], [5, 5]]) == [[], [0, 1]]


def exchange_of_one(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    mine = [trajectory([1], [rank] * n, 1.0) for n in ([9, 8, 7, 6, 5] if rank == 0 else [4])]
    mine[0].place = 3 + rank
    torch.save(exchange(mine, World()), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_exchange_whole_trajectories(tmp_path):
    fork(exchange_of_one, str(tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1))
    assert abs(sum(map(len, first)) - sum(map(len, second))) <= 5
    assert [t.completion.token_ids[0] for t in first] == [0] * len(first)
    assert second[0].completion.token_ids == [1] * 4 and second[0].place == 4
    assert all(t.completion.token_ids[0] == 0 for t in second[1:])
    lengths = sorted(len(t.completion.token_ids) for t in first + second)
    assert lengths == [4, 5, 6, 7, 8, 9]
