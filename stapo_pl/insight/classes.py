"""The paper's eight classes of tokens, and how much of a step each of them makes up.

A class says whether the probability p of the token is low, whether the entropy H of the policy at
the token is low, and which sign the advantage has (STAPO, 2602.15620). The spurious tokens are one
of them: low p, low H, positive advantage.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from stapo_pl.core.batches import MiniBatch, Tokens, TokenStatistics
from stapo_pl.core.world import World
from stapo_pl.insight.effects import Effects
from stapo_pl.objectives import S2T, Objective
from stapo_pl.objectives.selections import rare_tokens

CLASSES = [
    f"{p}_p_{entropy}_H_{sign}"
    for p, entropy, sign in product(("low", "high"), ("low", "high"), ("positive", "negative"))
]
SPURIOUS = CLASSES[0]
NO_SIGNAL = "no_signal"
"""The class of tokens whose advantage is 0. They teach nothing."""


def entropy_threshold(
    objective: Objective,
    mini_batch: MiniBatch,
    tokens: Tokens,
    statistics: TokenStatistics,
    world: World,
) -> float | None:
    """Returns tau_h of rare tokens with positive advantage, or None if there is no such token.

    It is the threshold of the objective's own S2T, or the one that S2T would have. All ranks must
    call this together.

    Args:
        objective: the objective of the run.
        mini_batch: the mini-batch, with the statistics that selections looked at.
        tokens: all tokens of the mini-batch on this rank.
        statistics: their statistics under the policy that is being updated.
        world: the ranks that share the mini-batch.
    """
    own = next((s2t for s2t in objective.selections if isinstance(s2t, S2T)), None)
    if own is not None:
        is_old = own.statistics == "behavior"
        seen = mini_batch.behavior if is_old else mini_batch.selected_by
        assert seen is not None, "the selection looked at it"
        statistics = seen
    s2t = S2T(tau_p=objective.rare_probability) if own is None else own
    rare_T = rare_tokens(tokens, statistics, s2t.tau_p)
    tau_h = s2t.threshold(rare_T, statistics, world)
    return None if tau_h is None else tau_h.item()


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
