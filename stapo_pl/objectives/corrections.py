"""Importance weights for the gap between the engine that sampled and the policy that trains.

Both hold the same weights, yet their kernels and precisions differ, so a token's probability under
the sampler, mu, is not quite the one under the policy of the rollout, pi_old. With r = pi_old / mu,
a correction multiplies the surrogate loss of a token by a function of r. Denominators stay as they
are, and so do the KL and entropy terms. Where the two agree, every correction is exactly 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.tensors import sequence_sums
from stapo_pl.objectives.kl import MAX_LOG_RATIO


class Correction(ABC):
    """A function of the ratio between the policy of the rollout and the sampler."""

    takes_cuts: ClassVar[bool] = True
    """Whether it also makes up for rollouts that top-p or top-k cut."""

    @abstractmethod
    def weights(self, log_ratio_T: Tensor, sequence_T: Tensor) -> Tensor:
        """What the surrogate loss of each token is multiplied by, [T]; no gradient flows into it.

        Args:
            log_ratio_T: `log pi_old - log mu` of every token of a mini-batch.
            sequence_T: the sequence of each token.
        """


def _bounded_exp(log_ratio: Tensor) -> Tensor:
    return log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


@dataclass(kw_only=True)
class _Truncated(Correction):
    """Importance weights of at most `cap` (Ionides, 2008).

    Args:
        cap: largest weight.

    Raises:
        ConfigError: a cap below 1.
    """

    cap: float = 2.0

    def __post_init__(self) -> None:
        if not self.cap >= 1:
            raise ConfigError(f"correction.cap must be at least 1, got {self.cap}")


class TokenTIS(_Truncated):
    """Truncated importance sampling of tokens: `min(r_t, cap)`.

    See "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training" (2025).

    Args:
        cap: largest weight.
    """

    def weights(self, log_ratio_T: Tensor, sequence_T: Tensor) -> Tensor:
        return _bounded_exp(log_ratio_T).clamp(max=self.cap)


class SequenceTIS(_Truncated):
    """Truncated importance sampling of sequences: `min(prod_t r_t, cap)` for all their tokens.

    Unbiased but for the cap, where `TokenTIS` is not; see "When Speed Kills Stability: Demystifying
    RL Collapse from the Training-Inference Mismatch" (2025). The product is over the tokens that
    teach, and its variance grows with their number. Of cut rollouts it is the probability of never
    leaving the nucleus, which is about 0.

    Args:
        cap: largest weight.
    """

    takes_cuts = False

    def weights(self, log_ratio_T: Tensor, sequence_T: Tensor) -> Tensor:
        log_ratios = sequence_sums(log_ratio_T, sequence_T)
        return _bounded_exp(log_ratios).clamp(max=self.cap)[sequence_T]


@dataclass(kw_only=True)
class IcePop(Correction):
    """`r_t` where it lies in [low, high], 0 elsewhere (2510.18855).

    Args:
        low: smallest ratio that counts.
        high: largest ratio that counts.

    Raises:
        ConfigError: bounds that do not enclose 1.
    """

    low: float = 0.5
    high: float = 5.0

    def __post_init__(self) -> None:
        if not 0 <= self.low <= 1 <= self.high:
            raise ConfigError(
                f"correction needs 0 <= low <= 1 <= high, got low={self.low}, high={self.high}"
            )

    def weights(self, log_ratio_T: Tensor, sequence_T: Tensor) -> Tensor:
        ratio_T = _bounded_exp(log_ratio_T)
        return ratio_T.where((self.low <= ratio_T) & (ratio_T <= self.high), 0)
