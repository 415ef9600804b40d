"""What another objective would have done with the same mini-batch.

Such an objective is a shadow. It makes no step. It sees the advantages and the statistics that our
own objective sees in the pass with gradient, whatever statistics its own selection would ask for.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.world import World
from stapo_pl.insight.effects import Effects, effects_of
from stapo_pl.objectives.base import Objective


@dataclass
class Shadow:
    """What a shadow did with the tokens of this rank that have a pass with gradient."""

    keeps_T: Tensor
    """Whether the token keeps its loss."""
    effects: Effects
    """The effects of the tokens under the shadow."""
    unsilenced: Effects
    """The effects that they would have if the shadow kept every token."""
    silenced_left_out: int
    """The number of tokens that the shadow silences among those without a pass."""


def check_shadow(name: str, objective: Objective) -> None:
    """Checks that an objective can be a shadow.

    Raises:
        ConfigError: it needs a reference policy, makes advantages of its own, or has a term for
            the entropy.
    """
    if objective.entropy_coef:
        raise ConfigError(
            f"insight.shadows: {name} has entropy_coef={objective.entropy_coef}, and the gradient "
            "of an entropy term is in no formula of shadows; set it to 0"
        )
    if objective.needs_reference or objective.token_advantage is not None:
        raise ConfigError(
            f"insight.shadows: {name} needs a reference policy (kl_coef) or makes advantages of "
            "tokens (token_advantage), and a shadow has neither; switch them off"
        )


def cast(
    objective: Objective,
    tokens: Tokens,
    statistics: TokenStatistics,
    passed: int,
    temperature: float,
    max_new_tokens: int,
    world: World,
) -> Shadow:
    """Returns what a shadow does with a mini-batch. All ranks must call this together.

    Args:
        objective: the shadow.
        tokens: all tokens of the mini-batch on this rank. Those without a pass come last.
        statistics: their statistics under the policy that is being updated.
        passed: the number of tokens that have a pass with gradient.
        temperature: the temperature that the rollout was sampled at.
        max_new_tokens: the largest possible number of tokens of a response.
        world: the ranks that share the mini-batch.

    Raises:
        ConfigError: see `effects_of`. All ranks raise it.
    """
    cuts = [passed, len(tokens) - passed]
    own = statistics.split(cuts)[0]
    found = []
    unselective = copy.copy(objective)
    unselective.selection = None
    for one in (objective, unselective):
        weighed = replace(tokens, weights_T=None, correction_T=None)
        one.set_weights(weighed, statistics, world, max_new_tokens)
        found.append((weighed, effects_of(one, own, weighed.split(cuts)[0], temperature, world)))
    (weighed, effects), (_, unsilenced) = found
    assert weighed.weights_T is not None
    keeps_T = torch.ne(weighed.weights_T, 0)
    left_out = int((~keeps_T[passed:]).sum())
    return Shadow(keeps_T[:passed], effects, unsilenced, left_out)


def compare(
    shadow: Shadow, own: Effects, keeps_T: Tensor, total: int, world: World
) -> dict[str, float]:
    """Returns how a shadow differs from our own objective. All ranks must call this together.

    Args:
        shadow: what the shadow did.
        own: the effects of the tokens under our own objective.
        keeps_T: whether our own objective keeps the loss of the token.
        total: the number of all tokens of the mini-batch on this rank.
        world: the ranks that share the mini-batch.

    Returns:
        silenced_fraction: the share of all tokens that the shadow silences.
        jaccard: among the tokens that have a pass, the number that both silence over the number
            that one of them silences. It is 1 if neither silences any.
        dropped_gradient: the share of the squared gradient norm that the shadow's selection drops.
        cosine: the cosine between the logit gradients of both, which is the sum of
            g_a g_b (1 - 2p + c) over the square root of the product of both squared norms. A
            token's two gradients are one vector with two factors, so this is exact.
    """
    ours, theirs = ~keeps_T, ~shadow.keeps_T
    full_T = shadow.unsilenced.squared_norms_T.double()
    product_T = own.slopes_T.double() * shadow.effects.slopes_T * own.directions_T
    sums = torch.stack(
        [
            theirs.sum().double() + shadow.silenced_left_out,
            torch.tensor(total, dtype=torch.double, device=full_T.device),
            (ours & theirs).sum().double(),
            (ours | theirs).sum().double(),
            full_T.where(theirs, 0).sum(),
            full_T.sum(),
            product_T.sum(),
            own.squared_norms_T.double().sum(),
            shadow.effects.squared_norms_T.double().sum(),
        ]
    )
    silenced, tokens, both, one, dropped, full, product, a, b = world.sum(sums).tolist()
    return {
        "silenced_fraction": silenced / max(tokens, 1),
        "jaccard": both / one if one else 1.0,
        "dropped_gradient": dropped / full if full else 0.0,
        "cosine": product / (a * b) ** 0.5 if a and b else 0.0,
    }
