"""Measures how far the sampler's log-probabilities are from those of the policy.

A large gap means that the sampler computes something else than the policy that is trained.
"""

from __future__ import annotations

from typing import Literal

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from stapo_pl.core.batches import Tokens
from stapo_pl.core.errors import ConfigError, TrainingError
from stapo_pl.core.means import Means
from stapo_pl.objectives.kl import kl_divergence


class SamplerGap:
    """Measures the gap on the first mini-batch of each rollout, and compares it with bounds.

    Args:
        mean: the largest mean absolute difference of log-probabilities. None sets no bound.
        kl: the largest KL(sampler, policy), estimated by k3. None sets no bound.
        on_gap: what happens if the gap is above a bound: `warn` or `raise`.

    Raises:
        ConfigError: a bound is negative.
    """

    def __init__(
        self, mean: float | None, kl: float | None, on_gap: Literal["warn", "raise"]
    ) -> None:
        self.bounds, self.on_gap = {"gap_mean": mean, "gap_kl": kl}, on_gap
        self._means = Means()
        self.curves: dict[str, float] = {}
        """The gap of the present rollout, as curves. It is empty before the first step."""
        for name, bound in self.bounds.items():
            if bound is not None and not bound >= 0:
                raise ConfigError(f"model.max_sampler_{name} must not be negative, got {bound}")

    def start(self) -> None:
        """Forgets the gap of the rollout before. Call this when a rollout begins."""
        self.curves = {}
        self._means.reset()

    def note(self, logprobs_T: Tensor, tokens: Tokens) -> None:
        """Adds the gap of some tokens.

        Args:
            logprobs_T: the log-probabilities under the policy that made the rollout.
            tokens: the tokens, with the log-probabilities that the sampler reported.
        """
        gap_T = (logprobs_T - tokens.sampler_logprobs_T).abs()
        kl_T = kl_divergence(tokens.sampler_logprobs_T, logprobs_T, "k3")
        gaps = {"gap_max": gap_T, "gap_mean": gap_T, "gap_kl": kl_T}
        self._means.update(gaps, tokens.curve_weights_T)

    def check(self, step: int, is_cut: bool) -> None:
        """Makes the curves of the gap, and warns or raises if it is above a bound.

        Args:
            step: the number of the next optimizer step, for the message.
            is_cut: whether top-p or top-k cut the sampler's distribution. Then a gap is expected,
                and nothing is checked.

        Raises:
            TrainingError: the gap is above a bound, and `on_gap` is `raise`.
        """
        gap = {name: value.item() for name, value in self._means.compute().items()}
        self.curves = {f"rollout/sampler_{name}": value for name, value in gap.items()}
        # A gap that is NaN counts as above the bound, hence `not <=` and no `>`.
        over = [
            f"model.max_sampler_{name}={bound:g}"
            for name, bound in self.bounds.items()
            if bound is not None and not gap[name] <= bound
        ]
        if not over or is_cut:
            return
        message = (
            f"step {step}: the sampler's log-probabilities differ from the policy's by "
            f"{gap['gap_mean']:.2g} in the mean (KL {gap['gap_kl']:.2g}, up to "
            f"{gap['gap_max']:.3g}), more than {' and '.join(over)} allows. Its weights are "
            "compared at every sync, so it computes something else (attention, cache, "
            "temperature), or in another precision; objective.correction weighs tokens for it"
        )
        if self.on_gap == "raise":
            raise TrainingError(f"{message}; the policy was not updated")
        rank_zero_warn(message)
