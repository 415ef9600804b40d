"""Draws of tokens depend on what a token is, and on nothing else."""

from __future__ import annotations

import pytest
import torch

from stapo_pl.core import draws
from stapo_pl.core.draws import draw, random_numbers
from stapo_pl.core.world import World
from support.commands import fork

LENGTHS = (3, 1, 40, 7, 0, 12, 25)
SEEDS = [2**50 + 17 * number for number in range(len(LENGTHS))]


def sequences(order=(0, 1, 2, 3, 4, 5, 6)) -> torch.Tensor:
    """The number of the sequence of each token, if sequences stand in an order."""
    return torch.tensor([number for number in order for _ in range(LENGTHS[number])])


def test_the_numbers_are_those_of_splitmix64(monkeypatch):
    """The first five numbers of the published generator with seed 1234567."""
    monkeypatch.setattr(draws, "seed_for", lambda *key: 1234567)
    numbers = random_numbers([0], 0, torch.zeros(5, dtype=torch.long)).tolist()
    assert [number % 2**64 for number in numbers] == [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
        16408922859458223821,
    ]  # fmt: skip


def test_a_number_depends_on_seed_step_and_place_alone():
    sequence_T = sequences()
    whole = random_numbers(SEEDS, 5, sequence_T)
    assert len(whole.unique()) == len(whole)
    assert not (random_numbers(SEEDS, 6, sequence_T) == whole).any()
    assert not (random_numbers([seed + 1 for seed in SEEDS], 5, sequence_T) == whole).any()
    # Sequences in another order, with other numbers, or alone.
    order = [5, 2, 0, 6, 4, 3, 1]
    shuffled = random_numbers(SEEDS, 5, sequences(order))
    for number in order:
        own = whole[sequence_T == number]
        assert torch.equal(shuffled[sequences(order) == number], own)
        alone = torch.zeros(LENGTHS[number], dtype=torch.long)
        assert torch.equal(random_numbers([SEEDS[number]], 5, alone), own)
    assert len(random_numbers([], 5, torch.zeros(0, dtype=torch.long))) == 0


@pytest.mark.parametrize("count", [-1, 0, 1, 7, 19, 20, 100])
def test_as_many_candidates_are_drawn_as_were_asked_for(generator, count):
    numbers_T = random_numbers(SEEDS, 0, sequences())
    candidates_T = torch.zeros(len(numbers_T), dtype=torch.bool)
    candidates_T[torch.randperm(len(numbers_T), generator=generator)[:20]] = True
    drawn_T = draw(candidates_T, count, numbers_T, "test", World())
    assert drawn_T.sum() == min(max(count, 0), 20)
    assert not (drawn_T & ~candidates_T).any()


def test_every_candidate_has_the_same_chance():
    """Over 4,000 steps, 5 of 20 tokens are drawn: each some 1,000 times, each pair some 211."""
    sequence_T, steps = torch.arange(4).repeat_interleave(5), 4000
    all_T, seeds = torch.ones(20, dtype=torch.bool), [11, 22, 33, 44]
    drawn_ST = torch.stack(
        [
            draw(all_T, 5, random_numbers(seeds, step, sequence_T), "test", World())
            for step in range(steps)
        ]
    ).double()
    counts = drawn_ST.T @ drawn_ST
    # Five standard deviations.
    assert (counts.diag() - 1000).abs().max() < 5 * (steps * 0.25 * 0.75) ** 0.5
    share = 0.25 * 4 / 19
    pairs = counts[~torch.eye(20, dtype=torch.bool)]
    assert (pairs - steps * share).abs().max() < 5 * (steps * share * (1 - share)) ** 0.5


def test_draws_for_two_purposes_are_independent():
    sequence_T = torch.zeros(10_000, dtype=torch.long)
    numbers_T = random_numbers([1], 0, sequence_T)
    all_T = torch.ones_like(sequence_T, dtype=torch.bool)
    one, two = (draw(all_T, 5000, numbers_T, purpose, World()) for purpose in ("one", "two"))
    assert abs(int((one & two).sum()) - 2500) < 250


def one_of_two_ranks(rank: int, rendezvous: str, folder: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2
    )
    mine = ([6, 0, 5], [2, 3, 1, 4])[rank]
    sequence_T = sequences(mine)
    numbers_T = random_numbers(SEEDS, 3, sequence_T)
    drawn = [draw(numbers_T > 0, count, numbers_T, "test", World()) for count in (9, 0, 1000)]
    torch.save((mine, drawn), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_draw_what_one_draws(tmp_path):
    fork(one_of_two_ranks, str(tmp_path / "rendezvous"), str(tmp_path))
    sequence_T = sequences()
    numbers_T = random_numbers(SEEDS, 3, sequence_T)
    for number, count in enumerate((9, 0, 1000)):
        alone = draw(numbers_T > 0, count, numbers_T, "test", World())
        assert alone.any() == (count > 0)
        for rank in range(2):
            mine, drawn = torch.load(tmp_path / f"{rank}.pt")
            for sequence in mine:
                own = drawn[number][sequences(mine) == sequence]
                assert torch.equal(own, alone[sequence_T == sequence])
