"""A whole step on a tiny policy: cut, score, decide, and the gradient of every micro-batch."""

from __future__ import annotations

import torch

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.draws import random_numbers
from stapo_pl.core.types import Rollout
from stapo_pl.core.world import World
from stapo_pl.rollout.batching import cut
from stapo_pl.rollout.pruning import Pruning
from stapo_pl.rollout.sizes import BatchSizes
from stapo_pl.training.scoring import Scorer
from support.policies import tiny_policy

VOCABULARY = 40


class Passes:
    """The passes of a policy, of one that was a little different, and of a teacher, counted."""

    dropout = False
    device = torch.device("cpu")

    def __init__(self, generator: torch.Generator) -> None:
        self.policy, self.old, self.teacher = (tiny_policy(VOCABULARY, seed=1) for _ in range(3))
        with torch.no_grad():
            for p in [*self.old.parameters(), *self.teacher.parameters()]:
                p += 0.02 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
        self.sequences = 0

    def statistics(self, micro) -> TokenStatistics:
        with torch.no_grad():
            return self.old(micro)

    def teacher_statistics(self, micro) -> TokenStatistics:
        with torch.no_grad():
            return self.teacher(micro)

    def current(self, micro) -> TokenStatistics:
        self.sequences += len(micro.lengths)
        return self.policy(micro)


def gradient(
    objective,
    passes: Passes,
    groups,
    pruning: Pruning | None,
    micro_batches: int,
    world_groups=None,
    max_tokens: int | None = None,
) -> tuple[torch.Tensor, float]:
    """The gradient and the loss of a mini-batch, which are sums over the ranks.

    Args:
        groups: the groups of trajectories of this rank.
        micro_batches: their number, or the largest number if there is a largest size.
        world_groups: the number of groups on all ranks, if there are several.
        max_tokens: the largest size of a micro-batch in tokens, with padding.
    """
    count = len(groups) if world_groups is None else world_groups
    sizes = BatchSizes(count, max(len(groups[0]), 2), count, 1)
    rollout, world = Rollout(0, groups), World()
    batch = cut(rollout, 0, 0, sizes, micro_batches, 0.9, pruning, world, max_tokens)
    (mini_batch,) = batch.mini_batches
    Scorer(objective, passes, "recompute", 2).score(mini_batch, is_first=True)
    micros = [*mini_batch.micro_batches, *mini_batch.left_out]
    tokens = Tokens.cat([micro.tokens for micro in micros])
    seeds = [t.seed for t in (*mini_batch.trajectories, *mini_batch.left_out_trajectories)]
    tokens.random_T = random_numbers(seeds, 0, tokens.sequence_T)
    objective.set_weights(tokens, mini_batch.behavior, world, 20)
    passes.policy.zero_grad()
    parts = tokens.split([len(micro.tokens) for micro in micros])
    total = 0.0
    for micro, part in zip(mini_batch.micro_batches, parts, strict=False):
        micro.tokens = part
        loss, _ = objective.loss(passes.current(micro), part)
        loss.backward()
        total += loss.item()
    flat = torch.cat([p.grad.flatten() for p in passes.policy.parameters()])
    return world.sum(flat), world.sum(flat.new_tensor(total)).item()
