"""Clip-Cov: takes the gradient of a few tokens that lower the entropy."""

from __future__ import annotations

from dataclasses import dataclass

from stapo_pl.core import tensors
from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.draws import draw
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.world import World
from stapo_pl.objectives.covariance import check_ratio, covariances, share_of
from stapo_pl.objectives.grpo import GRPO
from stapo_pl.objectives.kl import clamped_log_ratio


@dataclass(kw_only=True)
class ClipCov(GRPO):
    """The clipped loss without a few tokens that are drawn by their covariance (2505.22617).

    They are drawn from the tokens whose covariance of advantage and log-probability lies in a band,
    see `covariances`, and which the clip does not touch. They have no loss, and the mean still
    counts them.

    Args:
        ratio: the share of tokens that are drawn. It is rounded down to at least one token.
        band_low: the lower end of the band. The ends themselves lie outside.
        band_high: the upper end of the band.

    Raises:
        ConfigError: the share lies outside (0, 1], or the band is empty.
    """

    looks_at_all_tokens = True

    ratio: float = 2e-4
    band_low: float = 1.0
    band_high: float = 5.0
    aggregation: tensors.Aggregation = "token-mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ratio(self.ratio)
        if not self.band_low < self.band_high:
            raise ConfigError(
                f"band_low must be below band_high, got {self.band_low} and {self.band_high}"
            )

    def mark(self, tokens: Tokens, statistics: TokenStatistics | None, world: World) -> None:
        covariances_T, count = covariances(tokens, statistics, world)
        ratio_T = clamped_log_ratio(statistics.logprobs_T, tokens.old_logprobs_T).exp()
        clipped_T = (tokens.advantages_T > 0) & (ratio_T > 1 + self.clip_high)
        clipped_T |= (tokens.advantages_T < 0) & (ratio_T < 1 - self.clip_low)
        candidates_T = (covariances_T > self.band_low) & (covariances_T < self.band_high)
        drawn_T = draw(
            candidates_T & ~clipped_T,
            share_of(self.ratio, count),
            tokens.random_T,
            "clip_cov",
            world,
        )
        tokens.weights_T = tokens.weights_T.where(~drawn_T, 0)
