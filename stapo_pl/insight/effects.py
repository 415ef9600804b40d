"""What each token does in an optimizer step: to the loss, to the gradient and to the entropy.

No pass of the model is needed for it. Below, g = dL/dlog p(y) is the slope of the loss of a
mini-batch with respect to the log-probability of a token y, so clipping, ratio, correction and
weight are in it. p is the probability of y, H the entropy and c the collision probability of the
policy at y, and T the temperature.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.world import World
from stapo_pl.objectives.base import Objective


@dataclass
class Effects:
    """The effects of T tokens."""

    losses_T: Tensor
    """What each token adds to the loss of the mini-batch."""
    slopes_T: Tensor
    """g, the slope of the loss with respect to the log-probability of the token."""
    directions_T: Tensor
    """(1 - 2p + c) / T^2, see `TokenStatistics.directions_T`."""
    pushes_T: Tensor
    """g (log p + H), how fast the token moves the entropy of the policy at its place, for each unit
    of the learning rate of a natural gradient step (STAPO, 2602.15620). It is positive if the
    token makes the policy less certain."""

    @property
    def squared_norms_T(self) -> Tensor:
        """g^2 (1 - 2p + c) / T^2, the squared norm of the loss' gradient with respect to logits."""
        return self.slopes_T.square() * self.directions_T


def effects_of(
    objective: Objective,
    statistics: TokenStatistics,
    tokens: Tokens,
    temperature: float,
    world: World,
) -> Effects:
    """Returns the effects of tokens under an objective. All ranks must call this together.

    Args:
        objective: the loss.
        statistics: the statistics of the tokens under the policy that is being updated.
        tokens: the tokens, with their weights. Sequences must be whole.
        temperature: the temperature that the rollout was sampled at.
        world: the ranks that share the mini-batch.

    Raises:
        ConfigError: the class has a `loss` of its own, or its loss has a gradient through entropy
            or collision probability on some rank. The formulas do not know it. All ranks raise it.
    """
    if type(objective).loss is not Objective.loss:
        raise ConfigError(
            f"{type(objective).__name__}: it overrides `loss`, which is one number; what it does "
            "to each token is known if it overrides `weighted_losses` instead"
        )
    leaves = [x.detach().clone().requires_grad_() for x in vars(statistics).values()]
    with torch.enable_grad():
        losses_T, _ = objective.weighted_losses(TokenStatistics(*leaves), tokens)
        slopes_T, *others = torch.autograd.grad(
            losses_T.sum(), leaves, allow_unused=True, materialize_grads=True
        )
    # All ranks learn of it, because all of them must go on in the same way.
    found = world.sum(torch.stack([slope_T.count_nonzero() for slope_T in others]))
    for name, count in zip(("entropy", "collision probability"), found.tolist(), strict=True):
        if count:
            raise ConfigError(
                f"{type(objective).__name__}: the loss has a gradient through the {name} of the "
                "policy (objective.entropy_coef is such a term), which is in no formula here"
            )
    pushes_T = slopes_T * (statistics.logprobs_T + statistics.entropy_T)
    return Effects(losses_T.detach(), slopes_T, statistics.directions_T(temperature), pushes_T)
