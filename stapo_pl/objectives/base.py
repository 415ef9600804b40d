"""The base class of all objectives: a loss for each token, and a weight for each loss."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, get_args

import torch
from torch import Tensor

from stapo_pl.core import tensors
from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.errors import ConfigError, TrainingError
from stapo_pl.core.world import World
from stapo_pl.objectives import kl
from stapo_pl.objectives.corrections import Correction
from stapo_pl.objectives.selections import RARE_PROBABILITY, Selection, choose, rare_tokens
from stapo_pl.objectives.token_advantages import TokenAdvantage
from stapo_pl.rollout.rules import RolloutRules


@dataclass(kw_only=True)
class Objective(ABC):
    """The loss `sum_t w_t l_t` of a mini-batch, which is the data of one optimizer step.

    The weights w are computed once for the whole mini-batch, over all its micro-batches and ranks.
    The token losses l are added up one micro-batch after another. The gradient therefore does not
    depend on how the mini-batch is cut. To write your own objective, make a subclass of this class
    or of another objective, override `token_loss`, and name your class on the command line.

    Args:
        aggregation: how token losses are averaged, see `tensors.token_weights`.
        selection: which tokens keep their loss. None keeps all. If it is a list, a token keeps its
            loss if all selections of the list keep it, see `selections.choose`.
        correction: how the loss of a token is weighted because the sampler's probabilities differ
            slightly from the trainer's. None does not correct.
        token_advantage: makes an advantage for each token. None gives every token the advantage of
            its whole response.
        kl_coef: the weight of the KL divergence from the reference policy, averaged over all
            response tokens. With 0, no reference policy is loaded for it.
        kl_estimator: how the KL divergence is estimated: k2, k3 or abs, see `kl.kl_divergence`.
        entropy_coef: the weight of an entropy bonus, averaged over all response tokens.
        rollout: the rules that the rollout is made by: rewards, groups and advantages.

    Raises:
        ConfigError: a choice is unknown, a coefficient is out of range, or the estimator k1 is used
            as a term of the loss.
    """

    zero_advantage_is_silent: ClassVar[bool] = False
    """Whether `token_loss` is 0, and has no gradient, for a token whose advantage is 0. A class
    that overrides `token_loss` must say so itself, also if the class above it does."""

    looks_at_all_tokens: ClassVar[bool] = False
    """Whether `set_weights` needs the statistics of all tokens under the policy just before the
    optimizer step, whatever the selection asks for."""

    aggregation: tensors.Aggregation = "token-mean"
    selection: Selection | list[Selection] | None = None
    correction: Correction | None = None
    token_advantage: TokenAdvantage | None = None
    kl_coef: float = 0.0
    kl_estimator: kl.Estimator = "k3"
    entropy_coef: float = 0.0
    rollout: RolloutRules = field(default_factory=RolloutRules)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "token_loss" in vars(cls) and "zero_advantage_is_silent" not in vars(cls):
            cls.zero_advantage_is_silent = False

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
        """Returns the surrogate loss of each token of a micro-batch, and metrics.

        Args:
            current: the statistics under the policy that is being updated. They have a gradient.
            tokens: the advantage, the log-probabilities under other policies, and the sequence of
                each token.

        Returns:
            Losses [T] to be minimised, and values [T] by name. The curve `policy/<name>` shows the
            mean of the values over an optimizer step. If the name ends in `_max`, the curve shows
            their maximum.
        """

    @property
    def selections(self) -> list[Selection]:
        """The selections, of which there may be none."""
        if isinstance(self.selection, list):
            return self.selection
        return [] if self.selection is None else [self.selection]

    @property
    def needs_reference(self) -> bool:
        """Whether a reference policy must compute log-probabilities of the rollout."""
        asked = self.token_advantage is not None and self.token_advantage.needs_reference
        return self.kl_coef != 0 or asked

    @property
    def needs_teacher(self) -> bool:
        """Whether a teacher must compute log-probabilities of the rollout."""
        return self.token_advantage is not None and self.token_advantage.needs_teacher

    @property
    def needs_behavior_statistics(self) -> bool:
        """Whether something needs statistics of the policy before its first update."""
        return self.decides_by_statistics or self.token_advantage is not None

    @property
    def decides_by_statistics(self) -> bool:
        """Whether `set_weights` needs statistics."""
        return bool(self.selections) or self.looks_at_all_tokens

    @property
    def needs_current_statistics(self) -> bool:
        """Whether `set_weights` needs statistics of the policy before each optimizer step."""
        asked = any(selection.statistics == "current" for selection in self.selections)
        return asked or self.looks_at_all_tokens

    @property
    def needs_all_statistics(self) -> bool:
        """Whether `set_weights` needs statistics of tokens whose advantage is 0."""
        asked = any(selection.needs_all_statistics for selection in self.selections)
        return asked or self.looks_at_all_tokens

    @property
    def sees_all_tokens(self) -> bool:
        """Whether all tokens have a pass without gradient just before each optimizer step."""
        return self.needs_all_statistics and self.needs_current_statistics

    @property
    def regularizes(self) -> bool:
        """Whether the loss has a term for all tokens, whatever their advantages and weights.

        A class with a `loss` or `weighted_losses` of its own may have one too.
        """
        cls = type(self)
        is_own = (cls.loss, cls.weighted_losses) != (Objective.loss, Objective.weighted_losses)
        return self.kl_coef != 0 or self.entropy_coef != 0 or is_own

    @property
    def can_prune(self) -> bool:
        """Whether sequences without advantage have no gradient, so that they need no pass."""
        silent = self.zero_advantage_is_silent and self.token_advantage is None
        return silent and not self.regularizes

    @property
    def rare_probability(self) -> float:
        """The probability below which the curve `policy/rare_fraction` counts a token as rare.

        It is that of the first selection which has one.
        """
        limits = (selection.rare_probability for selection in self.selections)
        return next((limit for limit in limits if limit is not None), RARE_PROBABILITY)

    def set_weights(
        self,
        tokens: Tokens,
        statistics: TokenStatistics | None,
        world: World,
        max_new_tokens: int,
        behavior: TokenStatistics | None = None,
    ) -> None:
        """Fills in the weights of all tokens of a mini-batch. All ranks must call this together.

        Args:
            tokens: all tokens of the mini-batch on this rank. Their weights are filled in.
            statistics: the statistics of these tokens under the policy just before the optimizer
                step. None if nothing needs them.
            world: the ranks that share the mini-batch.
            max_new_tokens: the largest possible number of tokens of a response.
            behavior: the statistics under the policy that made the rollout, for selections that ask
                for them. None if they are the same.
        """
        behavior = statistics if behavior is None else behavior
        keeps_T, counted_T = choose(self.selections, tokens, statistics, behavior, world)
        tokens.weights_T = tensors.token_weights(
            keeps_T, tokens.sequence_T, self.aggregation, world,
            counted_T=counted_T, max_new_tokens=max_new_tokens,
        )  # fmt: skip
        if self.correction is not None:
            log_ratio_T = tokens.old_logprobs_T - tokens.sampler_logprobs_T
            tokens.correction_T = self.correction.weights(log_ratio_T, tokens.sequence_T)
        # A selection may silence what a token learns from its reward. KL and entropy terms still
        # count all tokens, so their weights ignore the selection.
        all_T = torch.ones_like(keeps_T)
        tokens.regularizer_weights_T = tensors.token_weights(
            all_T, tokens.sequence_T, self.aggregation, world, max_new_tokens=max_new_tokens
        )
        self.mark(tokens, statistics, world)

    def mark(  # noqa: B027  # a hook, which most classes leave empty
        self, tokens: Tokens, statistics: TokenStatistics | None, world: World
    ) -> None:
        """Marks tokens that a class treats differently, when weights are there. Most do nothing.

        A class that reads the statistics sets `looks_at_all_tokens`. All ranks call this together.
        """

    def has_gradient(self, tokens: Tokens) -> Tensor | None:
        """Returns a mask [T] of the tokens at which some term of the loss may have a gradient.

        None stands for all tokens.

        Args:
            tokens: the tokens of a micro-batch, with their weights.
        """
        return None if self.regularizes else torch.ne(tokens.surrogate_weights_T, 0)

    def loss(self, current: TokenStatistics, tokens: Tokens) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the part of the loss that a micro-batch adds, and the metrics of its tokens.

        The parts of all micro-batches and ranks add up to the loss of the mini-batch.
        """
        losses_T, metrics = self.weighted_losses(current, tokens)
        return losses_T.sum(), metrics

    def weighted_losses(
        self, current: TokenStatistics, tokens: Tokens
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns what each token adds to the loss, [T], all terms weighted, and metrics."""
        weights_T = tokens.surrogate_weights_T.to(current.logprobs_T.dtype)
        teaches_T = weights_T != 0
        # A weight of 0 is not enough to silence a token. Its statistics may enter the losses of
        # other tokens, for example through the ratio of a sequence, and 0 times a loss that is not
        # finite is not 0. A detached token has no gradient in any of these ways.
        visible = TokenStatistics(
            *(torch.where(teaches_T, x, x.detach()) for x in vars(current).values())
        )
        losses_T, metrics = self._checked(self.token_loss(visible, tokens), weights_T.shape)
        losses_T = (weights_T * losses_T).where(teaches_T, 0)
        regularizer_weights_T = tokens.regularizer_weights_T.to(current.logprobs_T.dtype)
        if self.kl_coef:
            divergence_T = kl.kl_divergence(
                current.logprobs_T, tokens.reference_logprobs_T, self.kl_estimator
            )
            losses_T = losses_T + self.kl_coef * regularizer_weights_T * divergence_T
        if self.entropy_coef:
            losses_T = losses_T - self.entropy_coef * regularizer_weights_T * current.entropy_T
        return losses_T, self._metrics(current, tokens) | metrics

    def _checked(self, returned: object, shape: torch.Size) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns what `token_loss` returned if it is a loss of each token, and metrics."""
        match returned:
            case (Tensor() as losses_T, dict() as metrics) if losses_T.shape == shape:
                return losses_T, metrics
            case (Tensor() as losses_T, dict()):
                found = f"losses of shape {[*losses_T.shape]}"
            case _:
                found = f"a {type(returned).__name__}"
        raise TrainingError(
            f"{type(self).__name__}.token_loss must return the loss of each token, [T] = "
            f"{[*shape]}, and a dict of metrics; it returned {found}"
        )

    def _metrics(self, current: TokenStatistics, tokens: Tokens) -> dict[str, Tensor]:
        """Returns the metrics that all objectives share; values [T] by name."""
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
