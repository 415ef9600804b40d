"""Selections decide which response tokens keep their loss.

The decision is made once for each mini-batch, over all its ranks, before the optimizer step. This
file says what a selection is and how several combine. `rare_selections.py` holds those that look at
rare tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.tensors import quantile
from stapo_pl.core.world import World

StatisticsSource = Literal["current", "behavior"]

# A token with a smaller probability is rare, unless a selection sets another limit (2602.15620).
RARE_PROBABILITY = 0.002


class Selection(ABC):
    """Chooses the response tokens of a mini-batch that keep their loss."""

    statistics: StatisticsSource
    """The policy whose statistics `select` is given. `current` is the policy just before the
    optimizer step, which costs another pass. `behavior` is the policy that made the rollout, which
    is cheaper but slightly out of date."""
    denominator: Literal["selected", "all"]
    """Whether the loss is averaged over the selected tokens or over all response tokens."""

    @property
    def rare_probability(self) -> float | None:
        """The probability below which the curves count a token as rare. None leaves it open."""
        return None

    @property
    def needs_all_statistics(self) -> bool:
        """Whether the choice depends on the statistics of tokens whose advantage is 0."""
        return True

    @abstractmethod
    def select(self, tokens: Tokens, statistics: TokenStatistics, world: World) -> Tensor:
        """Returns a mask [T] that is true for the tokens that keep their loss.

        All ranks must call this together.

        Args:
            tokens: all tokens of the mini-batch on this rank.
            statistics: the statistics of these tokens under the policy that `statistics` names.
            world: the ranks that share the mini-batch.
        """


def choose(
    selections: Sequence[Selection],
    tokens: Tokens,
    current: TokenStatistics | None,
    behavior: TokenStatistics | None,
    world: World,
) -> tuple[Tensor, Tensor]:
    """Returns what several selections decide together. All ranks must call this together.

    Every selection looks at all tokens, whatever the others decide, so their order has no effect. A
    token keeps its loss if all of them keep it. A token that a selection with the denominator
    `selected` silences is not counted. A token that only selections with the denominator `all`
    silence is counted.

    Args:
        selections: the selections. If there are none, every token keeps its loss.
        tokens: all tokens of the mini-batch on this rank.
        current: the statistics of these tokens under the policy just before the optimizer step.
            None if no selection asks for them.
        behavior: the same under the policy that made the rollout.
        world: the ranks that share the mini-batch.

    Returns:
        Two masks [T]: which tokens keep their loss, and which the average of losses counts.
    """
    keeps_T = counted_T = torch.ones_like(tokens.sequence_T, dtype=torch.bool)
    for selection in selections:
        statistics = behavior if selection.statistics == "behavior" else current
        assert statistics is not None, "the scorer made what selections ask for"
        own_T = selection.select(tokens, statistics, world)
        keeps_T = keeps_T & own_T
        if selection.denominator == "selected":
            counted_T = counted_T & own_T
    return keeps_T, counted_T


def rare_tokens(
    tokens: Tokens, statistics: TokenStatistics, tau_p: float, sign: Literal[1, -1] = 1
) -> Tensor:
    """Returns a mask [T] of the tokens with positive advantage and probability below `tau_p`.

    With sign -1, these are the tokens with negative advantage.
    """
    return (sign * tokens.advantages_T > 0) & (statistics.logprobs_T.exp() < tau_p)


def check_statistics(source: str) -> None:
    """Raises ConfigError if the source of statistics is unknown."""
    if source not in ("current", "behavior"):
        raise ConfigError(f"statistics must be current or behavior, got {source}")


def check_fraction(name: str, value: float) -> None:
    """Raises ConfigError if the value does not lie between 0 and 1."""
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} must lie between 0 and 1, got {value}")


@dataclass(kw_only=True)
class TopEntropy(Selection):
    """Keeps the fraction of response tokens with the highest entropy (2506.01939).

    The loss is still averaged over all response tokens, as in the paper.

    Args:
        fraction: the share of the mini-batch's response tokens that keep their loss.
        statistics: `current` uses the policy just before the optimizer step, `behavior` the policy
            that made the rollout.

    Raises:
        ConfigError: the fraction lies outside [0, 1], or the source of statistics is unknown.
    """

    fraction: float = 0.2
    statistics: StatisticsSource = "behavior"
    denominator = "all"

    def __post_init__(self) -> None:
        check_fraction("fraction", self.fraction)
        check_statistics(self.statistics)

    def select(self, tokens: Tokens, statistics: TokenStatistics, world: World) -> Tensor:
        candidates = world.gather(statistics.entropy_T)
        if len(candidates) == 0:
            return torch.ones_like(statistics.entropy_T, dtype=torch.bool)
        return ~(statistics.entropy_T < quantile(candidates, 1 - self.fraction))
