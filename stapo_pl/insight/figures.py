"""Figures of the tokens of an optimizer step, besides the classes."""

from __future__ import annotations

import torch
from torch import Tensor

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.tensors import quantile_of_sorted
from stapo_pl.core.world import World
from stapo_pl.insight.effects import Effects

_QUANTILES = (50, 80, 90, 99)
# A quantile is taken of at most so many tokens of each rank, evenly spread, so that ranks do not
# exchange millions of numbers for a curve.
_MOST_TOKENS = 2**16


def silenced_and_kept(
    tokens: Tokens, statistics: TokenStatistics, effects: Effects, world: World
) -> dict[str, float]:
    """Returns the mean p, H and gradient norm of the tokens that are silenced, and of the others.

    The norm is |A rho| sqrt(1 - 2p + c) / T, with the advantage A and the ratio rho, clipping and
    weights aside, so that silenced tokens have one too. A group without tokens has no figures.
    """
    assert tokens.old_logprobs_T is not None and tokens.weights_T is not None, "of a loss"
    log_ratio_T = statistics.logprobs_T - tokens.old_logprobs_T
    norm_T = (tokens.advantages_T * log_ratio_T.exp()).abs() * effects.directions_T.sqrt()
    columns = {
        "p": statistics.logprobs_T.exp(),
        "entropy": statistics.entropy_T,
        "gradient_norm": norm_T,
    }
    is_silenced_T = tokens.weights_T == 0
    groups = {"silenced": is_silenced_T, "kept": ~is_silenced_T}
    return _means(columns, groups, "tokens/{group}/{column}", world)


def entropies(
    tokens: Tokens, statistics: TokenStatistics, correct_B: Tensor, world: World
) -> dict[str, float]:
    """Returns quantiles of the entropy over tokens, and its means over right and wrong responses.

    Only tokens that had a pass count.

    Args:
        tokens: the tokens of this rank.
        statistics: their statistics.
        correct_B: whether each sequence is right, by its number in the mini-batch.
        world: the ranks that share the mini-batch.
    """
    right_T = correct_B[tokens.sequence_T]
    figures = _means(
        {"entropy": statistics.entropy_T},
        {"right": right_T, "wrong": ~right_T},
        "policy/{column}_{group}",
        world,
    )
    stride = max(1, -(-len(tokens) // _MOST_TOKENS))
    entropy_N = world.gather(statistics.entropy_T[::stride].contiguous())
    if len(entropy_N):
        ordered = entropy_N.sort().values
        for percent in _QUANTILES:
            value = quantile_of_sorted(ordered, percent / 100)
            figures[f"policy/entropy_p{percent}"] = value.item()
    return figures


def _means(
    columns: dict[str, Tensor], groups: dict[str, Tensor], name: str, world: World
) -> dict[str, float]:
    """Returns the mean of each column over each group, over all ranks, in one exchange."""
    values_CT = torch.stack([column.double() for column in columns.values()])
    values_CT = torch.cat([values_CT, torch.ones_like(values_CT[:1])])
    masks_GT = torch.stack(list(groups.values())).double()
    sums = world.sum(masks_GT @ values_CT.T).tolist()
    return {
        name.format(group=group, column=column): total / count
        for group, (*totals, count) in zip(groups, sums, strict=True)
        for column, total in zip(columns, totals, strict=True)
        if count
    }
