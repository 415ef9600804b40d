"""Corrections that mask what differs too much between sampler and trainer, and weigh nothing.

With r = pi_old / mu as in `corrections.py`, the divergence of a token is `k3 = r - log r - 1`. It
is 0 where both agree. The names in brackets are those of verl's rejection sampling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.tensors import sequence_means, sequence_sums
from stapo_pl.objectives.corrections import Correction
from stapo_pl.objectives.kl import MAX_LOG_RATIO


@dataclass(kw_only=True)
class _K3Mask(Correction):
    """Masks where the divergence k3 is too large.

    Args:
        most: the largest divergence that counts.

    Raises:
        ConfigError: `most` is not above 0.
    """

    takes_cuts: ClassVar[bool] = False

    most: float

    def __post_init__(self) -> None:
        if not self.most > 0:
            raise ConfigError(f"correction.most must be above 0, got {self.most}")


@dataclass(kw_only=True)
class TokenK3Mask(_K3Mask):
    """Masks each token whose k3 is above `most` (`token_k3`)."""

    most: float = 0.3

    def weights(self, log_ratio_T: Tensor, sequence_T: Tensor) -> Tensor:
        return (_k3(log_ratio_T) <= self.most).to(log_ratio_T.dtype)


@dataclass(kw_only=True)
class SequenceMeanK3Mask(_K3Mask):
    """Masks all tokens of a sequence whose mean k3 is above `most` (`seq_mean_k3`)."""

    most: float = 0.05

    def weights(self, log_ratio_T: Tensor, sequence_T: Tensor) -> Tensor:
        keeps_B = sequence_means(_k3(log_ratio_T), sequence_T) <= self.most
        return keeps_B[sequence_T].to(log_ratio_T.dtype)


@dataclass(kw_only=True)
class SequenceMaxK3Mask(_K3Mask):
    """Masks all tokens of a sequence in which some token's k3 is above `most` (`seq_max_k3`)."""

    most: float = 0.5

    def weights(self, log_ratio_T: Tensor, sequence_T: Tensor) -> Tensor:
        keeps_B = sequence_sums(_k3(log_ratio_T) > self.most, sequence_T) == 0
        return keeps_B[sequence_T].to(log_ratio_T.dtype)


@dataclass(kw_only=True)
class SequenceRatioMask(Correction):
    """Masks all tokens of a sequence whose mean ratio is not in [low, high] (`seq_mean_k1`).

    The mean is geometric: `exp(mean_t log r_t)`.

    Args:
        low: the smallest mean that counts.
        high: the largest mean that counts.

    Raises:
        ConfigError: 1 does not lie between the bounds.
    """

    takes_cuts: ClassVar[bool] = False

    low: float = 0.9
    high: float = 1.1

    def __post_init__(self) -> None:
        if not 0 < self.low <= 1 <= self.high:
            raise ConfigError(
                f"correction needs 0 < low <= 1 <= high, got low={self.low}, high={self.high}"
            )

    def weights(self, log_ratio_T: Tensor, sequence_T: Tensor) -> Tensor:
        mean_B = sequence_means(log_ratio_T, sequence_T)
        keeps_B = (mean_B >= math.log(self.low)) & (mean_B <= math.log(self.high))
        return keeps_B[sequence_T].to(log_ratio_T.dtype)


def _k3(log_ratio_T: Tensor) -> Tensor:
    log_ratio_T = log_ratio_T.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return log_ratio_T.exp() - log_ratio_T - 1
