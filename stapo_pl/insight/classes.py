"""The paper's eight classes of tokens, and how much of a step each of them makes up.

A class says whether the probability p of the token is low, whether the entropy H of the policy at
the token is low, and which sign the advantage has (STAPO, 2602.15620). The spurious tokens are one
of them: low p, low H, positive advantage.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.world import World
from stapo_pl.insight.effects import Effects

CLASSES = [
    f"{p}_p_{entropy}_H_{sign}"
    for p, entropy, sign in product(("low", "high"), ("low", "high"), ("positive", "negative"))
]
SPURIOUS = CLASSES[0]
NO_SIGNAL = "no_signal"
"""The class of tokens whose advantage is 0. They teach nothing."""


def classify(
    tokens: Tokens, statistics: TokenStatistics, tau_p: float, tau_h: float | Tensor
) -> Tensor:
    """Returns the number of the class of each token, [T]. `NO_SIGNAL` comes after `CLASSES`.

    Args:
        tokens: the tokens, with their advantages.
        statistics: their statistics under the policy that is being updated.
        tau_p: the probability below which p is low.
        tau_h: the entropy in nats below which H is low.
    """
    is_high_p = statistics.logprobs_T.exp() >= tau_p
    is_high_h = statistics.entropy_T >= tau_h
    number_T = 4 * is_high_p.long() + 2 * is_high_h.long() + (tokens.advantages_T < 0).long()
    return number_T.where(tokens.advantages_T != 0, len(CLASSES))


def class_shares(
    class_T: Tensor, effects: Effects, without_pass: int, world: World
) -> dict[str, float]:
    """Returns what each class makes up of an optimizer step. All ranks must call this together.

    Args:
        class_T: the class of each token on this rank.
        effects: the effects of these tokens.
        without_pass: the number of further tokens without signal, which had no pass.
        world: the ranks that share the mini-batch.

    Returns:
        For each class its share of tokens, of the absolute loss and of the squared logit-gradient
        norm; and the sum of its pushes on the entropy.
    """
    columns = (
        torch.ones_like(class_T, dtype=torch.double),
        effects.losses_T.abs().double(),
        effects.squared_norms_T.double(),
        effects.pushes_T.double(),
    )
    sums = torch.zeros(len(CLASSES) + 1, len(columns), dtype=torch.double, device=class_T.device)
    sums.index_add_(0, class_T, torch.stack(columns, 1))
    sums[-1, 0] += without_pass
    sums = world.sum(sums)
    totals = sums.sum(0)
    totals[-1] = 1  # the pushes are no shares
    rows = (sums / totals.where(totals > 0, 1)).tolist()
    names = ("share", "loss_share", "gradient_share", "entropy_push")
    return {
        f"tokens/{name}/{column}": value
        for name, row in zip((*CLASSES, NO_SIGNAL), rows, strict=True)
        for column, value in zip(names, row, strict=True)
    }
