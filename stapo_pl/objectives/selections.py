"""Which response tokens may teach. Decided once per optimizer mini-batch, over all its ranks."""

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

# Below this probability a token is rare, where a selection does not say otherwise (2602.15620).
RARE_PROBABILITY = 0.002


class Selection(ABC):
    """A choice among the response tokens of a mini-batch."""

    statistics: StatisticsSource
    """Whose statistics `select` gets: `current` those of the policy when the mini-batch is visited,
    `behavior` those of the scoring pass under the policy that made the rollout (cheaper, slightly
    stale)."""
    denominator: Literal["selected", "all"]
    """Whether the loss is averaged over the selected tokens or over all response tokens."""

    @property
    def rare_probability(self) -> float:
        """Probability below which the curves count a token as rare."""
        return RARE_PROBABILITY

    @abstractmethod
    def select(self, tokens: Tokens, statistics: TokenStatistics, world: World) -> Tensor:
        """Mask [T], true where a token keeps its loss. Collective over the ranks of `world`."""


def rare_tokens(tokens: Tokens, statistics: TokenStatistics, tau_p: float) -> Tensor:
    """Mask [T] of the tokens with positive advantage and probability below `tau_p`."""
    return (tokens.advantages_T > 0) & (statistics.logprobs_T.exp() < tau_p)


def check_statistics(source: str) -> None:
    if source not in ("current", "behavior"):
        raise ConfigError(f"statistics must be current or behavior, got {source}")


def check_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} must lie between 0 and 1, got {value}")


@dataclass(kw_only=True)
class S2T(Selection):
    """Silences spurious tokens (STAPO, 2602.15620, equations of S2T and Algorithm 1).

    A token is silenced if its advantage is positive, its probability is below `tau_p` and its
    entropy is strictly below `tau_h`, a quantile of the entropy in the mini-batch. No rare token:
    nothing is silenced.

    Args:
        tau_p: probability below which a token is rare.
        quantile: which quantile of the entropy is tau_h.
        scope: tokens that tau_h is taken over: `rare` (the paper's v4 and v5, quantile 0.75), the
            rare tokens with positive advantage, or `all` (v1 to v3, quantile 0.8), all response
            tokens.
        statistics: see `Selection`.

    Raises:
        ConfigError: a threshold outside [0, 1], or an unknown scope or source of statistics.
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

    def select(self, tokens: Tokens, statistics: TokenStatistics, world: World) -> Tensor:
        rare_T = rare_tokens(tokens, statistics, self.tau_p)
        entropy_T = statistics.entropy_T
        candidates = world.gather(entropy_T[rare_T] if self.scope == "rare" else entropy_T)
        if len(candidates) == 0:
            return torch.ones_like(rare_T)
        return ~(rare_T & (entropy_T < quantile(candidates, self.quantile)))


@dataclass(kw_only=True)
class TopEntropy(Selection):
    """Keeps the fraction of response tokens with the highest entropy (2506.01939).

    The loss is still averaged over all response tokens, as in the paper.

    Args:
        fraction: of the mini-batch's response tokens that keep their loss.
        statistics: see `Selection`.

    Raises:
        ConfigError: a fraction outside [0, 1], or an unknown source of statistics.
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
