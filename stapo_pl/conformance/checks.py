"""What a check found, and the loss and gradient of a mini-batch that checks compare."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.world import World
from stapo_pl.objectives import Objective


@dataclass
class Check:
    """Two things that should be equal."""

    name: str
    """What was compared."""
    difference: float
    """The largest difference that was found."""
    tolerance: float
    """The largest difference that is allowed."""

    @property
    def passed(self) -> bool:
        return self.difference <= self.tolerance  # a difference of NaN is too large


@dataclass
class Step:
    """The loss of a mini-batch, and its gradient."""

    loss: Tensor
    gradient: TokenStatistics
    """The gradient with respect to each of the statistics."""

    def difference(self, other: Step) -> float:
        """Returns the largest difference of the losses and of the gradients."""
        ours, theirs = vars(self.gradient).values(), vars(other.gradient).values()
        pairs = [(self.loss, other.loss), *zip(ours, theirs, strict=True)]
        return largest_difference(pairs)


def largest_difference(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Returns the largest difference of pairs of tensors. It is NaN if one of them has a NaN."""
    return torch.cat([(ours - theirs).abs().flatten() for ours, theirs in pairs]).max().item()


def take_step(
    objective: Objective,
    tokens: Tokens,
    statistics: TokenStatistics,
    max_new_tokens: int,
    micro_batches: int = 1,
) -> Step:
    """Returns what a mini-batch adds to the gradient, as training computes it.

    Weights are decided for the whole mini-batch, and then its micro-batches are passed one by one.

    Args:
        objective: the objective, which is asked for weights and losses.
        tokens: all tokens of the mini-batch. Their weights are filled in.
        statistics: the statistics of these tokens under the policy.
        max_new_tokens: the largest possible number of tokens of a response.
        micro_batches: how many parts the mini-batch is cut into, each of whole sequences.
    """
    objective.set_weights(tokens, statistics, World(), max_new_tokens)
    leaves = [x.clone().requires_grad_() for x in vars(statistics).values()]
    sequences = torch.bincount(tokens.sequence_T).tensor_split(micro_batches)
    sizes = [int(lengths.sum()) for lengths in sequences]
    parts = zip(*(x.split(sizes) for x in leaves), strict=True)
    loss = torch.zeros((), dtype=torch.float64)
    for part, columns in zip(tokens.split(sizes), parts, strict=True):
        loss = loss + objective.loss(TokenStatistics(*columns), part)[0]
    if loss.requires_grad:
        loss.backward()
    gradients = (torch.zeros_like(x) if x.grad is None else x.grad for x in leaves)
    return Step(loss.detach(), TokenStatistics(*gradients))
