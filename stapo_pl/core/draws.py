"""Draws some of the response tokens of a mini-batch, the same ones however the run is laid out.

A generator would draw other tokens whenever their order or the number of ranks changes. So each
token has a random number of its own here, which is computed from what the token is, and the tokens
with the smallest numbers are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stapo_pl.core.seeding import seed_for
from stapo_pl.core.world import World

# The constants of SplitMix64 (Steele, Lea and Flood, Fast Splittable Pseudorandom Number
# Generators, 2014). PyTorch has no full set of operations on unsigned numbers, so those above 2^63
# are written as the signed numbers with the same bits. Products wrap around, as there.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_FIRST_FACTOR = 0xBF58476D1CE4E5B9 - 2**64
_SECOND_FACTOR = 0x94D049BB133111EB - 2**64


def random_numbers(seeds: Sequence[int], step: int, sequence_T: Tensor) -> Tensor:
    """Returns a random number for each token, [T] in int64.

    It depends on the seed of the token's sequence, on the optimizer step, and on the place of the
    token among the response tokens of its sequence. Integers are mixed, so a CPU and a GPU compute
    the same numbers.

    Args:
        seeds: the seed that each sequence was sampled with. It is a hash of the run's seed, the
            position of the prompt in the stream of prompts, and the number of the sample.
        step: the number of the optimizer step in the run.
        sequence_T: the index into `seeds` of each token's sequence. The tokens of a sequence stand
            together, in their order.
    """
    device = sequence_T.device
    keys = [seed_for(seed, "draw", step) for seed in seeds]
    keys_B = torch.tensor(keys, dtype=torch.long, device=device)
    counts = torch.unique_consecutive(sequence_T, return_counts=True)[1]
    firsts = counts.cumsum(0) - counts
    place_T = torch.arange(len(sequence_T), device=device) - firsts.repeat_interleave(counts)
    # This is the output of number `place` of a SplitMix64 generator that the sequence seeds.
    return _mixed(keys_B[sequence_T] + (place_T + 1) * _STEP)


def draw(candidates_T: Tensor, count: int, random_T: Tensor, purpose: str, world: World) -> Tensor:
    """Returns a mask [T] of `count` of the candidates of all ranks, or of all if there are fewer.

    Every subset of that size has the same chance. All ranks must call this together, with the same
    `count` and `purpose`.

    Args:
        candidates_T: a mask of the tokens that can be drawn on this rank.
        count: how many tokens are drawn over all ranks.
        random_T: the random numbers of the tokens, see `random_numbers`.
        purpose: what the tokens are drawn for. Draws for different purposes are independent.
        world: the ranks that share the mini-batch.
    """
    numbers_T = _mixed(random_T ^ seed_for(purpose))
    ordered = world.gather(numbers_T[candidates_T]).sort().values[: max(count, 0)]
    if len(ordered) == 0:
        return torch.zeros_like(candidates_T)
    return candidates_T & (numbers_T <= ordered[-1])


def largest(values_T: Tensor, count: int, random_T: Tensor, world: World) -> Tensor:
    """Returns a mask [T] of the `count` largest values of all ranks. Equal ones are drawn from.

    All ranks must call this together, with the same `count`.
    """
    values, numbers = world.gather(values_T), world.gather(random_T)
    if not len(values) or count < 1:
        return torch.zeros_like(values_T, dtype=torch.bool)
    order = numbers.argsort()
    order = order[values[order].argsort(descending=True, stable=True)]
    last = order[min(count, len(order)) - 1]
    return (values_T > values[last]) | ((values_T == values[last]) & (random_T <= numbers[last]))


def _mixed(x: Tensor) -> Tensor:
    """Returns the numbers with their bits mixed by SplitMix64. No two numbers become the same."""
    x = (x ^ _shifted(x, 30)) * _FIRST_FACTOR
    x = (x ^ _shifted(x, 27)) * _SECOND_FACTOR
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Returns the bits shifted to the right, with zeros on the left also for negative numbers."""
    return (x >> bits) & (2 ** (64 - bits) - 1)
