"""Selections that silence rare tokens: the paper's S2T, and others that it is compared with.

A token is rare if its probability is below tau_p. Right answers have a positive advantage, and
wrong ones a negative advantage. The paper silences rare tokens of right answers only.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.draws import draw
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.tensors import quantile
from stapo_pl.core.world import World
from stapo_pl.objectives.selections import (
    RARE_PROBABILITY,
    Selection,
    StatisticsSource,
    check_fraction,
    check_statistics,
    rare_tokens,
)

Sign = Literal["positive", "negative", "both"]

_SIGNS: dict[str, tuple[Literal[1, -1], ...]] = {
    "positive": (1,),
    "negative": (-1,),
    "both": (1, -1),
}


@dataclass(kw_only=True)
class RareSelection(Selection):
    """Silences some or all of the rare tokens. The base class of the others in this file.

    Args:
        tau_p: the probability below which a token is rare.
        sign: the sign of the advantage of the tokens that can be silenced: `positive` for right
            answers, as in the paper, `negative` for wrong ones, or `both`. With `both`, the two
            signs are decided one after the other, as if there were two selections.
        statistics: `current` uses the policy just before the optimizer step, `behavior` the policy
            that made the rollout.

    Raises:
        ConfigError: tau_p lies outside [0, 1], or the sign or the source of statistics is unknown.
    """

    tau_p: float = RARE_PROBABILITY
    sign: Sign = "positive"
    statistics: StatisticsSource = "current"
    denominator = "selected"

    def __post_init__(self) -> None:
        check_fraction("tau_p", self.tau_p)
        check_statistics(self.statistics)
        if self.sign not in get_args(Sign):
            raise ConfigError(f"sign must be positive, negative or both, got {self.sign}")

    @property
    def rare_probability(self) -> float:
        return self.tau_p

    @property
    def needs_all_statistics(self) -> bool:
        return False

    def select(self, tokens: Tokens, statistics: TokenStatistics, world: World) -> Tensor:
        keeps_T = torch.ones_like(tokens.advantages_T, dtype=torch.bool)
        for sign in _SIGNS[self.sign]:
            rare_T = rare_tokens(tokens, statistics, self.tau_p, sign)
            keeps_T &= ~self.silenced(rare_T, tokens, statistics, world)
        return keeps_T

    @abstractmethod
    def silenced(
        self, rare_T: Tensor, tokens: Tokens, statistics: TokenStatistics, world: World
    ) -> Tensor:
        """Returns a mask [T] of the rare tokens that are silenced.

        All ranks must call this together.

        Args:
            rare_T: a mask of the rare tokens of one sign on this rank.
            tokens: all tokens of the mini-batch on this rank.
            statistics: the statistics of these tokens.
            world: the ranks that share the mini-batch.
        """


@dataclass(kw_only=True)
class AllRare(RareSelection):
    """Silences all rare tokens."""

    def silenced(
        self, rare_T: Tensor, tokens: Tokens, statistics: TokenStatistics, world: World
    ) -> Tensor:
        return rare_T


@dataclass(kw_only=True)
class S2T(RareSelection):
    """Silences spurious tokens (STAPO, 2602.15620, equations of S2T and Algorithm 1).

    A token is silenced if three things hold: its advantage is positive, its probability is below
    tau_p, and the entropy of the policy at the token is strictly below tau_h. The threshold tau_h
    is a quantile of the entropy in the mini-batch. If no token is rare, nothing is silenced.

    Args:
        tau_p: the probability below which a token is rare.
        sign: `positive` as in the paper. `negative` silences rare tokens with negative advantage in
            the same way, and `both` those of either sign.
        quantile: which quantile of the entropy is tau_h.
        scope: the tokens whose entropy gives tau_h. `rare` takes the rare tokens of the sign that
            is silenced, so each sign has a threshold of its own. For the positive sign this is the
            threshold of the paper's v4 and v5, with quantile 0.75. `all` takes all response tokens
            for either sign, as in v1 to v3 with quantile 0.8.
        statistics: `current` uses the policy just before the optimizer step, `behavior` the policy
            that made the rollout.

    Raises:
        ConfigError: a threshold lies outside [0, 1], or the sign, the scope or the source of
            statistics is unknown.
    """

    quantile: float = 0.75
    scope: Literal["rare", "all"] = "rare"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("quantile", self.quantile)
        if self.scope not in ("rare", "all"):
            raise ConfigError(f"scope must be rare or all, got {self.scope}")

    @property
    def needs_all_statistics(self) -> bool:
        return self.scope == "all"

    def threshold(self, rare_T: Tensor, statistics: TokenStatistics, world: World) -> Tensor | None:
        """Returns tau_h in nats, or None if no token is a candidate. See `silenced`."""
        entropy_T = statistics.entropy_T
        if self.scope == "rare":
            entropy_T = entropy_T[rare_T]
        candidates = world.gather(entropy_T)
        return quantile(candidates, self.quantile) if len(candidates) else None

    def silenced(
        self, rare_T: Tensor, tokens: Tokens, statistics: TokenStatistics, world: World
    ) -> Tensor:
        tau_h = self.threshold(rare_T, statistics, world)
        if tau_h is None:
            return torch.zeros_like(rare_T)
        return rare_T & (statistics.entropy_T < tau_h)


@dataclass(kw_only=True)
class HighEntropyRare(S2T):
    """Silences the rare tokens that S2T keeps: those whose entropy is tau_h or above."""

    def silenced(
        self, rare_T: Tensor, tokens: Tokens, statistics: TokenStatistics, world: World
    ) -> Tensor:
        return rare_T & ~super().silenced(rare_T, tokens, statistics, world)


@dataclass(kw_only=True)
class RandomRare(S2T):
    """Silences random rare tokens, as many as S2T would silence, or a fraction of them.

    The draw depends on the seed of the run, on the optimizer step, and on what each token is; see
    `core/draws.py`. How a mini-batch is cut, ordered or spread over ranks has no effect on it.

    Args:
        tau_p: the probability below which a token is rare.
        sign: the sign of the advantage of the tokens that can be silenced. With `both`, each sign
            has a number of its own.
        quantile: the quantile of the S2T whose number of tokens is silenced.
        scope: the scope of this S2T.
        fraction: the share of the rare tokens that is silenced instead, rounded to whole tokens of
            the mini-batch.
        statistics: `current` uses the policy just before the optimizer step, `behavior` the policy
            that made the rollout.

    Raises:
        ConfigError: a threshold or the fraction lies outside [0, 1], or a choice is unknown; in
            `select`, the tokens have no random numbers.
    """

    fraction: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fraction is not None:
            check_fraction("fraction", self.fraction)

    def silenced(
        self, rare_T: Tensor, tokens: Tokens, statistics: TokenStatistics, world: World
    ) -> Tensor:
        if tokens.random_T is None:
            raise ConfigError(
                "RandomRare draws by the random numbers of tokens, and these have none: records of "
                "earlier versions lack the seeds that the numbers are made of"
            )
        if self.fraction is None:
            count = int(world.sum(super().silenced(rare_T, tokens, statistics, world).sum()))
        else:
            count = round(self.fraction * int(world.sum(rare_T.sum())))
        return draw(rare_T, count, tokens.random_T, "rare tokens", world)
