"""The second stage of advantages: it can give each token of a response another advantage.

The first stage, `rollout/advantages.py`, gives one advantage to the whole response.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.world import World


class TokenAdvantage(ABC):
    """Makes an advantage for each token from the advantage of its response.

    The first stage sees only rewards. This stage runs after the policy has computed its statistics
    of the rollout, and before any selection. It can therefore use log-probabilities, entropies and
    collision probabilities too.
    """

    needs_reference: bool = False
    """Whether this class reads `tokens.reference_logprobs_T`."""
    needs_teacher: bool = False
    """Whether this class reads `tokens.teacher_logprobs_T`."""

    @abstractmethod
    def advantages(self, tokens: Tokens, statistics: TokenStatistics, world: World) -> Tensor:
        """Returns the advantages [T] of a mini-batch. All ranks must call this together.

        Args:
            tokens: all tokens of the mini-batch on this rank, with advantages, rewards, group
                numbers, and old and sampler log-probabilities. A group is never split between
                mini-batches, but a sum over a group must also go over the ranks.
            statistics: the statistics of these tokens under the policy that made the rollout.
            world: the ranks that share the mini-batch.
        """
