"""Checks what every objective keeps to: a cut and another order of the mini-batch change nothing,
and a silenced token has no gradient."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from stapo_pl.conformance.checks import Check, take_step
from stapo_pl.conformance.vectors import LONGEST, joined_mini_batch
from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.world import World
from stapo_pl.objectives import Objective, Selection

_CUTS = (2, 4, 8)


def check_invariance(objective: Objective, tolerance: float) -> list[Check]:
    """Compares the loss and gradient of a mini-batch with those after a cut, and in another order.

    Padding and packing do not reach an objective, which sees only response tokens.

    Raises:
        ConfigError: no token has a gradient, so that there is nothing to compare.
    """
    tokens, statistics = joined_mini_batch()
    whole = take_step(objective, replace(tokens), statistics, LONGEST)
    if not any(gradient_T.any() for gradient_T in vars(whole.gradient).values()):
        raise ConfigError("no token of the recorded mini-batches has a gradient")
    found = {
        f"loss and gradient of {cut} micro-batches as of one": take_step(
            objective, replace(tokens), statistics, LONGEST, cut
        )
        for cut in _CUTS
    }
    lengths = torch.bincount(tokens.sequence_T).tolist()
    backwards = Tokens.cat(tokens.split(lengths)[::-1])
    backwards.sequence_T = backwards.sequence_T.max() - backwards.sequence_T
    moved = take_step(objective, backwards, _backwards(statistics, lengths), LONGEST)
    moved.gradient = _backwards(moved.gradient, lengths[::-1])
    found["loss and gradient of sequences in another order"] = moved
    return [Check(name, whole.difference(other), tolerance) for name, other in found.items()]


def check_silencing(objective: Objective) -> Check:
    """Silences every third token, and looks for a gradient there, which has to be exactly 0.

    KL and entropy terms are left out, because silenced tokens count in them.
    """
    tokens, statistics = joined_mini_batch()
    silenced_T = torch.arange(len(tokens)) % 3 == 1
    silencing = copy.copy(objective)
    silencing.selection = _AllBut(silenced_T)
    silencing.kl_coef = silencing.entropy_coef = 0.0
    gradient = take_step(silencing, tokens, statistics, LONGEST).gradient
    leaked = torch.stack([gradient_T[silenced_T] for gradient_T in vars(gradient).values()])
    return Check("gradient of silenced tokens", leaked.abs().max().item(), 0.0)


class _AllBut(Selection):
    """Silences the tokens of a mask."""

    statistics = "current"
    denominator = "selected"

    def __init__(self, silenced_T: Tensor) -> None:
        self._silenced_T = silenced_T

    def select(self, tokens: Tokens, statistics: TokenStatistics, world: World) -> Tensor:
        return ~self._silenced_T


def _backwards(values: TokenStatistics, lengths: list[int]) -> TokenStatistics:
    """Returns the values of tokens whose sequences come in the opposite order."""
    return TokenStatistics(*(torch.cat(x.split(lengths)[::-1]) for x in vars(values).values()))
