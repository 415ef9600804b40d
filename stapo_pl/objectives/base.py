"""What an objective is: a selection, a token loss and weights."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from stapo_pl.core import tensors
from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.world import World
from stapo_pl.objectives import kl
from stapo_pl.objectives.corrections import Correction
from stapo_pl.objectives.selections import Selection
from stapo_pl.rollout import advantages


@dataclass(kw_only=True)
class DynamicSampling:
    """Refills the rollout until it has enough prompts with mixed groups (DAPO, 2503.14476).

    A group is mixed if the rewards of its responses differ, as the reward gave them: before the
    punishment of overlong responses, as in DAPO, which filters by accuracy.

    Args:
        max_rounds: rounds of sampling in a rollout, the first one counted.
        on_exhausted: what to do when they did not yield enough: `train` on what there is, or
            `raise`.

    Raises:
        ConfigError: less than one round, or an unknown `on_exhausted`.
    """

    max_rounds: int = 3
    on_exhausted: Literal["raise", "train"] = "train"

    def __post_init__(self) -> None:
        if self.max_rounds < 1:
            raise ConfigError(
                f"dynamic_sampling.max_rounds must be at least 1, got {self.max_rounds}"
            )
        if self.on_exhausted not in ("raise", "train"):
            raise ConfigError(
                f"dynamic_sampling.on_exhausted must be raise or train, got {self.on_exhausted}"
            )


@dataclass(kw_only=True)
class Objective(ABC):
    """The loss `sum_t w_t l_t` of a mini-batch, and what it asks of the rollout.

    Weights w are fixed once per mini-batch over all micro-batches and ranks, the token losses l are
    summed micro-batch by micro-batch, so the gradient does not depend on how the mini-batch is cut.
    To write your own, subclass this or any objective, override `token_loss`, and name your class on
    the command line.

    Args:
        advantage: group-relative advantage estimator, see `advantages.group_advantages`.
        aggregation: how token losses are averaged, see `tensors.token_weights`.
        selection: which tokens keep their loss; None keeps all.
        correction: what weighs token losses for the sampler's being slightly another policy; None
            does not.
        kl_coef: weight of the KL divergence to the reference policy, averaged over all response
            tokens; 0 loads no reference.
        kl_estimator: k2, k3 or abs, see `kl.kl_divergence`.
        entropy_coef: weight of an entropy bonus, averaged over all response tokens.
        dynamic_sampling: keeps only prompts whose responses differ in their rewards; None keeps
            all.
        overlong_buffer: share of the response limit over which a growing punishment sets in, down
            to -1 at the limit (DAPO's soft overlong punishment); 0 punishes nothing.
        overlong_filtering: whether truncated responses are masked.

    Raises:
        ConfigError: a coefficient or share out of range, or the estimator k1 as a term of the loss.
    """

    advantage: advantages.Estimator = "grpo"
    aggregation: tensors.Aggregation = "token-mean"
    selection: Selection | None = None
    correction: Correction | None = None
    kl_coef: float = 0.0
    kl_estimator: kl.Estimator = "k3"
    entropy_coef: float = 0.0
    dynamic_sampling: DynamicSampling | None = None
    overlong_buffer: float = 0.0
    overlong_filtering: bool = False

    def __post_init__(self) -> None:
        for name, choices in (
            ("advantage", advantages.Estimator),
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
        if not 0 <= self.overlong_buffer < 1:
            raise ConfigError(f"overlong_buffer must lie in [0, 1), got {self.overlong_buffer}")

    @abstractmethod
    def token_loss(self, current: TokenStatistics, tokens: Tokens) -> Tensor:
        """Surrogate loss [T] of every token of a micro-batch, to be minimised.

        Args:
            current: differentiable statistics under the policy that is being updated.
            tokens: advantages, old, sampler and reference log-probabilities, and the sequence of
                each token.
        """

    def token_metrics(self, current: TokenStatistics, tokens: Tokens) -> dict[str, Tensor]:
        """Values [T]; `policy/<name>` logs their mean (`..._max` their maximum) in a step."""
        return {}

    @property
    def needs_reference(self) -> bool:
        return self.kl_coef != 0

    @property
    def needs_current_statistics(self) -> bool:
        """Whether the selection wants a pass of the current policy before each update."""
        return self.selection is not None and self.selection.statistics == "current"

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

    def loss(self, current: TokenStatistics, tokens: Tokens) -> Tensor:
        """A micro-batch's share of the loss; those of all micro-batches and ranks add up."""
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
        loss = (weights_T * self.token_loss(visible, tokens)).where(teaches_T, 0).sum()
        regularizer_weights_T = tokens.regularizer_weights_T.to(current.logprobs_T.dtype)
        if self.kl_coef:
            divergence_T = kl.kl_divergence(
                current.logprobs_T, tokens.reference_logprobs_T, self.kl_estimator
            )
            loss = loss + self.kl_coef * (regularizer_weights_T * divergence_T).sum()
        if self.entropy_coef:
            loss = loss - self.entropy_coef * (regularizer_weights_T * current.entropy_T).sum()
        return loss
