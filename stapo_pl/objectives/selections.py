"""Selections decide which response tokens keep their loss.

The decision is made once for each mini-batch, over all its ranks, before the optimizer step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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
    def rare_probability(self) -> float:
        """The probability below which the curves count a token as rare."""
        return RARE_PROBABILITY

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


def rare_tokens(tokens: Tokens, statistics: TokenStatistics, tau_p: float) -> Tensor:
    """Returns a mask [T] of the tokens with positive advantage and probability below `tau_p`."""
    return (tokens.advantages_T > 0) & (statistics.logprobs_T.exp() < tau_p)


def check_statistics(source: str) -> None:
    """Raises ConfigError if the source of statistics is unknown."""
    if source not in ("current", "behavior"):
        raise ConfigError(f"statistics must be current or behavior, got {source}")


def check_fraction(name: str, value: float) -> None:
    """Raises ConfigError if the value does not lie between 0 and 1."""
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} must lie between 0 and 1, got {value}")


@dataclass(kw_only=True)
class S2T(Selection):
    """Silences spurious tokens (STAPO, 2602.15620, equations of S2T and Algorithm 1).

    A token is silenced if three things hold: its advantage is positive, its probability is below
    tau_p, and the entropy of the policy at the token is strictly below tau_h. The threshold tau_h
    is a quantile of the entropy in the mini-batch. If no token is rare, nothing is silenced.

    Args:
        tau_p: the probability below which a token is rare.
        quantile: which quantile of the entropy is tau_h.
        scope: the tokens whose entropy gives tau_h. `rare` takes the rare tokens with positive
            advantage, as in the paper's v4 and v5 with quantile 0.75. `all` takes all response
            tokens, as in v1 to v3 with quantile 0.8.
        statistics: `current` uses the policy just before the optimizer step, `behavior` the policy
            that made the rollout.

    Raises:
        ConfigError: a threshold lies outside [0, 1], or the scope or the source of statistics is
            unknown.
    """

    tau_p: float = RARE_PROBABILITY
    quantile: float = 0.75
    scope: Literal["rare", "all"] = "rare"
    statistics: StatisticsSource = "current"
    denominator = "selected"

    def __post_init__(self) -> None:
        check_fraction("tau_p", self.tau_p)
        check_fraction("quantile", self.quantile)
        check_statistics(self.statistics)
        if self.scope not in ("rare", "all"):
            raise ConfigError(f"scope must be rare or all, got {self.scope}")

    @property
    def rare_probability(self) -> float:
        return self.tau_p

    @property
    def needs_all_statistics(self) -> bool:
        return self.scope == "all"

    def threshold(self, tokens: Tokens, statistics: TokenStatistics, world: World) -> Tensor | None:
        """Returns tau_h in nats, or None if no token is a candidate. See `select`."""
        entropy_T = statistics.entropy_T
        if self.scope == "rare":
            entropy_T = entropy_T[rare_tokens(tokens, statistics, self.tau_p)]
        candidates = world.gather(entropy_T)
        return quantile(candidates, self.quantile) if len(candidates) else None

    def select(self, tokens: Tokens, statistics: TokenStatistics, world: World) -> Tensor:
        rare_T = rare_tokens(tokens, statistics, self.tau_p)
        tau_h = self.threshold(tokens, statistics, world)
        if tau_h is None:
            return torch.ones_like(rare_T)
        return ~(rare_T & (statistics.entropy_T < tau_h))


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
