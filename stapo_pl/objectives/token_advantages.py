"""The second stage of advantages: one for each token, made after the rollout was scored."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.world import World


class TokenAdvantage(ABC):
    """Makes an advantage for each token out of that of its sequence.

    The first stage, `rollout.advantages`, knows the rewards alone. This stage comes after the
    policy has scored the rollout and before any selection, so it may use log-probabilities and
    collision probabilities as well.
    """

    needs_reference: bool = False
    """Whether it reads `tokens.reference_logprobs_T`."""

    @abstractmethod
    def advantages(self, tokens: Tokens, statistics: TokenStatistics, world: World) -> Tensor:
        """Advantages [T] of a mini-batch. Collective over the ranks of `world`.

        Args:
            tokens: all tokens of the mini-batch on this rank, with the sequence's advantages,
                rewards and group numbers, and with old and sampler log-probabilities. A group is
                never split between mini-batches, but sums over it have to go over the ranks.
            statistics: theirs, under the policy that made the rollout.
        """
