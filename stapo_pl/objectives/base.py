"""What an objective is: a selection, a token loss and weights."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import get_args

import torch
from torch import Tensor

from stapo_pl.core import tensors
from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.world import World
from stapo_pl.objectives import kl
from stapo_pl.objectives.corrections import Correction
from stapo_pl.objectives.selections import RARE_PROBABILITY, Selection, rare_tokens
from stapo_pl.objectives.token_advantages import TokenAdvantage
from stapo_pl.rollout.rules import RolloutRules


@dataclass(kw_only=True)
class Objective(ABC):
    """The loss `sum_t w_t l_t` of a mini-batch.

    Weights w are fixed once per mini-batch over all micro-batches and ranks, the token losses l are
    summed micro-batch by micro-batch, so the gradient does not depend on how the mini-batch is cut.
    To write your own, subclass this or any objective, override `token_loss`, and name your class on
    the command line.

    Args:
        aggregation: how token losses are averaged, see `tensors.token_weights`.
        selection: which tokens keep their loss; None keeps all.
        correction: what weighs token losses for the sampler's being slightly another policy; None
            does not.
        token_advantage: makes an advantage for each token; None gives every token that of its
            sequence.
        kl_coef: weight of the KL divergence to the reference policy, averaged over all response
            tokens; 0 loads no reference.
        kl_estimator: k2, k3 or abs, see `kl.kl_divergence`.
        entropy_coef: weight of an entropy bonus, averaged over all response tokens.
        rollout: what the objective asks of the rollout; it is handed to whoever makes it.

    Raises:
        ConfigError: a coefficient out of range, or the estimator k1 as a term of the loss.
    """

    aggregation: tensors.Aggregation = "token-mean"
    selection: Selection | None = None
    correction: Correction | None = None
    token_advantage: TokenAdvantage | None = None
    kl_coef: float = 0.0
    kl_estimator: kl.Estimator = "k3"
    entropy_coef: float = 0.0
    rollout: RolloutRules = field(default_factory=RolloutRules)

    def __post_init__(self) -> None:
        for name, choices in (
            ("aggregation", tensors.Aggregation),
            ("kl_estimator", kl.Estimator),
        ):
            if getattr(self, name) not in get_args(choices):
                accepted = ", ".join(get_args(choices))
                raise ConfigError(f"{name} must be one of {accepted}, got {getattr(self, name)}")
        if not 0 <= self.kl_coef < math.inf:
            raise ConfigError(f"kl_coef must not be negative, got {self.kl_coef}")
        if self.kl_coef and self.kl_estimator == "k1":
            raise ConfigError(
                f"kl_estimator=k1 with kl_coef={self.kl_coef}: as a term of the loss, k1 has the "
                "gradient of the log-probabilities alone, which is noise of mean 0 whatever the "
                "reference is; use k2, k3 or abs"
            )
        if not math.isfinite(self.entropy_coef):
            raise ConfigError(f"entropy_coef must be finite, got {self.entropy_coef}")

    @abstractmethod
    def token_loss(
        self, current: TokenStatistics, tokens: Tokens
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Surrogate loss of every token of a micro-batch, to be minimised, and its metrics.

        Args:
            current: differentiable statistics under the policy that is being updated.
            tokens: advantages, old, sampler and reference log-probabilities, and the sequence of
                each token.

        Returns:
            Losses [T], and by name values [T] of which `policy/<name>` logs the mean over a step
            (of a name that ends in `_max`, the maximum).
        """

    @property
    def needs_reference(self) -> bool:
        """Whether a reference policy has to score the rollout."""
        asked = self.token_advantage is not None and self.token_advantage.needs_reference
        return self.kl_coef != 0 or asked

    @property
    def needs_behavior_statistics(self) -> bool:
        """Whether something wants the rollout scored before its first update."""
        return self.selection is not None or self.token_advantage is not None

    @property
    def needs_current_statistics(self) -> bool:
        """Whether the selection wants a pass of the current policy before each update."""
        return self.selection is not None and self.selection.statistics == "current"

    @property
    def rare_probability(self) -> float:
        """Probability below which `policy/rare_fraction` counts a token as rare."""
        return RARE_PROBABILITY if self.selection is None else self.selection.rare_probability

    def set_weights(
        self,
        tokens: Tokens,
        statistics: TokenStatistics | None,
        world: World,
        max_new_tokens: int,
    ) -> None:
        """Fills in the weights of a whole mini-batch. Collective over the ranks of `world`.

        Args:
            tokens: all tokens of the mini-batch on this rank.
            statistics: theirs, from the source that the selection asks for; None without one.
            max_new_tokens: longest possible response.
        """
        all_T = torch.ones_like(tokens.sequence_T, dtype=torch.bool)
        mask_T = all_T
        if self.selection is not None:
            mask_T = self.selection.select(tokens, statistics, world)
        average_all = self.selection is not None and self.selection.denominator == "all"
        tokens.weights_T = tensors.token_weights(
            mask_T, tokens.sequence_T, self.aggregation, world,
            counted_T=all_T if average_all else None, max_new_tokens=max_new_tokens,
        )  # fmt: skip
        if self.correction is not None:
            log_ratio_T = tokens.old_logprobs_T - tokens.sampler_logprobs_T
            tokens.correction_T = self.correction.weights(log_ratio_T, tokens.sequence_T)
        tokens.regularizer_weights_T = tensors.token_weights(
            all_T, tokens.sequence_T, self.aggregation, world, max_new_tokens=max_new_tokens
        )

    def loss(self, current: TokenStatistics, tokens: Tokens) -> tuple[Tensor, dict[str, Tensor]]:
        """A micro-batch's share of the loss, and the metrics of its tokens.

        The shares of all micro-batches and ranks add up to the loss of the mini-batch.
        """
        weights_T = tokens.weights_T.to(current.logprobs_T.dtype)
        if tokens.correction_T is not None:
            weights_T = weights_T * tokens.correction_T.to(weights_T.dtype)
        teaches_T = weights_T != 0
        # A weight of 0 alone does not silence a token whose statistics enter the losses of others,
        # through a sequence's ratio say, nor one whose loss is not finite. Detached, it has no
        # gradient by any way.
        visible = TokenStatistics(
            *(torch.where(teaches_T, x, x.detach()) for x in vars(current).values())
        )
        losses_T, metrics = self.token_loss(visible, tokens)
        loss = (weights_T * losses_T).where(teaches_T, 0).sum()
        regularizer_weights_T = tokens.regularizer_weights_T.to(current.logprobs_T.dtype)
        if self.kl_coef:
            divergence_T = kl.kl_divergence(
                current.logprobs_T, tokens.reference_logprobs_T, self.kl_estimator
            )
            loss = loss + self.kl_coef * (regularizer_weights_T * divergence_T).sum()
        if self.entropy_coef:
            loss = loss - self.entropy_coef * (regularizer_weights_T * current.entropy_T).sum()
        return loss, self._metrics(current, tokens) | metrics

    def _metrics(self, current: TokenStatistics, tokens: Tokens) -> dict[str, Tensor]:
        """What every objective is watched by; values [T]."""
        values = {
            "entropy": current.entropy_T,
            "silenced_fraction": tokens.weights_T == 0,
            "rare_fraction": rare_tokens(tokens, current, self.rare_probability),
            "kl_old": kl.kl_divergence(tokens.old_logprobs_T, current.logprobs_T, "k3"),
        }
        if tokens.correction_T is not None:
            values["correction_weight"] = values["correction_weight_max"] = tokens.correction_T
            values["correction_masked_fraction"] = tokens.correction_T == 0
        if tokens.reference_logprobs_T is not None:
            values["kl_reference"] = kl.kl_divergence(
                current.logprobs_T, tokens.reference_logprobs_T, "k3"
            )
        return values
