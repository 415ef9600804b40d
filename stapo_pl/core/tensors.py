"""Mathematics on response tokens: quantiles, sums over sequences, and the weights of a loss."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stapo_pl.core.world import World

Aggregation = Literal[
    "token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"
]


def quantile(values_N: Tensor, q: float) -> Tensor:
    """Returns the q-quantile by linear interpolation.

    `torch.quantile` would do the same, but it refuses more than 2^24 elements.
    """
    return quantile_of_sorted(values_N.sort().values, q)


def quantile_of_sorted(ordered: Tensor, q: float) -> Tensor:
    """Returns the q-quantile of values that are in ascending order."""
    position = q * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return torch.lerp(ordered[below], ordered[above], position - below)


def sequence_sums(values_T: Tensor, sequence_T: Tensor) -> Tensor:
    """Returns the sum of the values of each sequence, [1 + largest sequence number], in float64."""
    total = int(sequence_T.max()) + 1 if len(sequence_T) else 0
    sums = torch.zeros(total, dtype=torch.double, device=sequence_T.device)
    return sums.index_add_(0, sequence_T, values_T.double())


def sequence_means(values_T: Tensor, sequence_T: Tensor, mask_T: Tensor | None = None) -> Tensor:
    """Returns the mean of the values of each sequence, [1 + largest sequence number], in float64.

    Only tokens of the mask count. The mean is 0 for a sequence without such a token.
    """
    mask_T = torch.ones_like(sequence_T, dtype=torch.bool) if mask_T is None else mask_T
    counts = sequence_sums(mask_T, sequence_T).clamp(min=1)
    return sequence_sums(values_T.where(mask_T, 0), sequence_T) / counts


def token_weights(
    mask_T: Tensor,
    sequence_T: Tensor,
    aggregation: Aggregation,
    world: World,
    *,
    counted_T: Tensor | None = None,
    max_new_tokens: int | None = None,
) -> Tensor:
    """Returns the weights w_t with which `sum_t w_t l_t` is an average over the mini-batch.

    The mini-batch counts on all ranks. Below, m is 1 for a token whose loss counts, c is 1 for a
    token that the denominator counts, |y_i| is the number of counted tokens of sequence i, and N is
    the number of sequences that have counted tokens.

    - token-mean: `m / sum(c)` (DAPO, 2503.14476)
    - seq-mean-token-mean: `m / (|y_i| N)` (GRPO, 2402.03300)
    - seq-mean-token-sum: `m / N`
    - seq-mean-token-sum-norm: `m / (N L_max)`; here N is the number of all sequences that have
      tokens, whether the tokens are counted or not (Dr. GRPO, 2503.20783)

    Args:
        mask_T: m; it is true for the tokens whose loss counts.
        sequence_T: the number of the sequence that each token belongs to.
        aggregation: which of the four averages is used.
        world: the ranks that share the mini-batch.
        counted_T: c; it is true for the tokens that the denominator counts. The default is the
            mask.
        max_new_tokens: L_max, the largest possible number of tokens of a response. Only
            seq-mean-token-sum-norm needs it.

    Returns:
        Weights [T] in float64. They are all 0 if no token is counted.
    """
    counted_T = mask_T if counted_T is None else counted_T
    mask = mask_T.double()
    # A denominator is at least 1, so that weights are 0 and not NaN if no token is counted.
    if aggregation == "token-mean":
        return mask / world.sum(counted_T.sum()).clamp(min=1)
    norm = aggregation == "seq-mean-token-sum-norm"
    counts = sequence_sums(torch.ones_like(mask_T) if norm else counted_T, sequence_T)
    sequences = world.sum((counts > 0).sum()).clamp(min=1)
    if norm:
        assert max_new_tokens is not None, "this aggregation divides by it"
        return mask / (sequences * max_new_tokens)
    if aggregation == "seq-mean-token-sum":
        return mask / sequences
    return mask / (counts[sequence_T].clamp(min=1) * sequences)
