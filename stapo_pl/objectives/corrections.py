"""Importance weights for the gap between the sampler and the policy in the trainer.

Both use the same model weights, but their kernels and precisions differ. The probability mu of a
token under the sampler is therefore not exactly its probability pi_old in the trainer. With
r = pi_old / mu, a correction multiplies the surrogate loss of a token by a function of r. It does
not change the denominators of averages, nor the KL and entropy terms. Where mu and pi_old are
equal, every correction is exactly 1.
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
    """Computes a factor of each token's loss from the ratio between trainer and sampler."""

    takes_cuts: ClassVar[bool] = True
    """Whether the correction also works if top-p or top-k cut the sampler's distribution."""

    @abstractmethod
    def weights(self, log_ratio_T: Tensor, sequence_T: Tensor) -> Tensor:
        """Returns the factor [T] of each token's surrogate loss. It has no gradient.

        Args:
            log_ratio_T: `log pi_old - log mu` of every token of a mini-batch.
            sequence_T: the number of the sequence that each token belongs to.
        """


def _bounded_exp(log_ratio: Tensor) -> Tensor:
    return log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


@dataclass(kw_only=True)
class _Truncated(Correction):
    """Importance weights that are at most `cap` (Ionides, 2008).

    Args:
        cap: the largest weight.

    Raises:
        ConfigError: `cap` is below 1.
    """

    cap: float = 2.0

    def __post_init__(self) -> None:
        if not self.cap >= 1:
            raise ConfigError(f"correction.cap must be at least 1, got {self.cap}")


class TokenTIS(_Truncated):
    """Truncated importance sampling of tokens: the factor of token t is `min(r_t, cap)`.

    See "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training" (2025).

    Args:
        cap: the largest weight.
    """

    def weights(self, log_ratio_T: Tensor, sequence_T: Tensor) -> Tensor:
        return _bounded_exp(log_ratio_T).clamp(max=self.cap)


class SequenceTIS(_Truncated):
    """Truncated importance sampling of sequences: every token has `min(prod_t r_t, cap)`.

    The product goes over all tokens of the sequence that teach. Apart from the cap, it is unbiased,
    and `TokenTIS` is not; see "When Speed Kills Stability: Demystifying RL Collapse from the
    Training-Inference Mismatch" (2025). Its variance grows with the number of tokens. If top-p or
    top-k cut the sampler's distribution, the product is the probability that no token of the
    sequence is cut off. That is about 0 for long sequences, so such rollouts are refused.

    Args:
        cap: the largest weight.
    """

    takes_cuts = False

    def weights(self, log_ratio_T: Tensor, sequence_T: Tensor) -> Tensor:
        log_ratios = sequence_sums(log_ratio_T, sequence_T)
        return _bounded_exp(log_ratios).clamp(max=self.cap)[sequence_T]


@dataclass(kw_only=True)
class IcePop(Correction):
    """The factor of token t is r_t if it lies in [low, high], and 0 otherwise (2510.18855).

    Args:
        low: the smallest ratio that counts.
        high: the largest ratio that counts.

    Raises:
        ConfigError: 1 does not lie between the bounds.
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


class SequenceIcePop(IcePop):
    """The factor of every token of a sequence is `prod_t r_t` if it lies in [low, high], else 0.

    Args:
        low: the smallest product that counts.
        high: the largest product that counts.
    """

    takes_cuts = False

    def weights(self, log_ratio_T: Tensor, sequence_T: Tensor) -> Tensor:
        return super().weights(sequence_sums(log_ratio_T, sequence_T), sequence_T)[sequence_T]
