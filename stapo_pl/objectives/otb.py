"""OTB: the optimal token baseline."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from stapo_pl.core import tensors
from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.world import World
from stapo_pl.objectives.grpo import GRPO
from stapo_pl.objectives.token_advantages import TokenAdvantage

# It keeps the division finite where all tokens so far were certain. verl uses the same value.
_EPSILON = 1e-8


@dataclass
class OptimalTokenBaseline(TokenAdvantage):
    """The reward minus the baseline that has the least variance at this position (2602.07078).

    Let `W_it` be the sum of `1 - 2p + c` over the first t tokens of response i, where p is the
    probability of a token and c the collision probability. It stands for the squared norm of the
    gradient so far. The baseline at position t is the mean reward of the responses of the group
    that reach t, weighted by `W_it`. It is 0 where a single response is left.
    """

    def advantages(self, tokens: Tokens, statistics: TokenStatistics, world: World) -> Tensor:
        rewards_T, group_T = tokens.rewards_T, tokens.group_T
        assert rewards_T is not None and group_T is not None, "collate fills them in"
        norms_T = (1 - 2 * statistics.logprobs_T.exp() + statistics.collision_T).double()
        energy_T = _sums_so_far(norms_T, tokens.sequence_T)
        place_T = _sums_so_far(torch.ones_like(norms_T), tokens.sequence_T).long() - 1
        # The responses of a group may lie on several ranks, so all of them fill one table, with a
        # cell for each group and position.
        groups, places = world.gather(group_T), world.gather(place_T)
        if len(groups) == 0:
            return rewards_T
        first, length = groups.min(), int(places.max()) + 1
        cell_T = (group_T - first) * length + place_T
        columns = torch.stack([energy_T * rewards_T, energy_T, torch.ones_like(energy_T)])
        table = columns.new_zeros(3, int(groups.max() - first + 1) * length)
        sums_T = world.sum(table.index_add_(1, cell_T, columns))[:, cell_T]
        weighted_T, weight_T, count_T = sums_T
        baseline_T = (weighted_T / (weight_T + _EPSILON)).where(count_T > 1, 0)
        return (rewards_T - baseline_T).to(rewards_T.dtype)


@dataclass(kw_only=True)
class OTB(GRPO):
    """The clipped loss with the optimal baseline of each token (2602.07078).

    See `OptimalTokenBaseline`. All sequences have a pass, because the last tokens of the longest
    response of a group have an advantage even if all rewards of the group are equal.
    """

    aggregation: tensors.Aggregation = "token-mean"
    token_advantage: TokenAdvantage | None = field(default_factory=OptimalTokenBaseline)


def _sums_so_far(values_T: Tensor, sequence_T: Tensor) -> Tensor:
    """Returns the sum of each token's value and of those before it in its sequence.

    The tokens of a sequence stand in a row.
    """
    sums_T = values_T.cumsum(0)
    begins_T = torch.ones_like(sequence_T, dtype=torch.bool)
    begins_T[1:] = sequence_T[1:] != sequence_T[:-1]
    starts = begins_T.nonzero().flatten()
    before = sums_T[starts] - values_T[starts]
    return sums_T - before[begins_T.cumsum(0) - 1]
