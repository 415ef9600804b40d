"""Mini-batches whose statistics stand in a table, and what is decided about their tokens."""

from __future__ import annotations

import random

import torch

from stapo_pl.core.batches import MicroBatch, Tokens, TokenStatistics
from stapo_pl.core.seeding import seed_for
from stapo_pl.core.types import Rollout, Trajectory
from stapo_pl.core.world import World
from stapo_pl.objectives import Objective
from stapo_pl.rollout.batching import cut
from stapo_pl.rollout.pruning import Pruning
from stapo_pl.rollout.sizes import BatchSizes
from stapo_pl.training.curves import StepCurves
from stapo_pl.training.events import Events
from stapo_pl.training.gap import SamplerGap
from stapo_pl.training.loop import Learner
from stapo_pl.training.scoring import Scorer
from support.carriers import trajectory

GROUPS, SAMPLES = 12, 4
_LONGEST = 40


def groups(seed: int = 0) -> list[list[Trajectory]]:
    """Groups in which every token has an id of its own; every third group teaches nothing."""
    draw, made, count = random.Random(seed), [], 0
    for position in range(GROUPS):
        group = []
        for sample in range(SAMPLES):
            length = draw.randint(1, _LONGEST)
            ids = list(range(count, count + length))
            count += length
            advantage = draw.choice((-1.5, -0.5, 0.5, 1.5)) if position % 3 else 0.0
            # Every fifth response has a gap that the policy did not write.
            mask = [(position + sample) % 5 > 0 or place % 7 > 1 for place in range(length)]
            one = trajectory([1, 2, 3], ids, advantage, mask=mask, position=position)
            one.sample, one.place = sample, position
            one.seed = seed_for(seed, "rollout", position, sample)
            group.append(one)
        made.append(group)
    return made


class Table:
    """Passes that look the statistics of a token up by its id. They change with each version.

    Some 40 % of the tokens are rare below 0.05, and no two entropies are equal.
    """

    dropout = False
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.version = 0

    def statistics(self, micro: MicroBatch) -> TokenStatistics:
        return self.of(micro.tokens)

    def of(self, tokens: Tokens, version: int | None = None) -> TokenStatistics:
        generator = torch.Generator().manual_seed(self.version if version is None else version)
        size = GROUPS * SAMPLES * _LONGEST
        columns = (
            torch.rand(size, generator=generator, dtype=torch.float64) for _ in range(3)
        )  # fmt: skip
        logprobs_V, entropy_V, collision_V = columns
        ids_T = tokens.token_ids_T
        return TokenStatistics(-5 * logprobs_V[ids_T], 3 * entropy_V[ids_T], collision_V[ids_T])


def decided(
    objective: Objective,
    of_rank: list[list[Trajectory]],
    *,
    micro_batches: int = 1,
    mini_batches: int = 1,
    pruning: Pruning | None = None,
    version: int = 5,
    step: int = 0,
    old_logprobs: str = "recompute",
) -> Tokens:
    """All tokens of this rank after the decision of one step, in whatever order they stand.

    The table has version 0 while the rollout is scored, and version `step` after it.
    """
    table, world = Table(), World()
    sizes = BatchSizes(GROUPS, SAMPLES, GROUPS // mini_batches, 2)
    rollout = Rollout(GROUPS, of_rank)
    batch = cut(rollout, version, 0, sizes, micro_batches, 0.9, pruning, world)
    scorer = Scorer(objective, table, old_logprobs, 2)
    curves = StepCurves(objective, SamplerGap(None, None, "warn"))
    learner = Learner(objective, scorer, curves, Events(), _LONGEST)
    learner.score(batch)
    table.version = step
    mini_batch = batch.mini_batches[step % mini_batches].at_step(step)
    learner.decide(mini_batch)
    micros = [*mini_batch.micro_batches, *mini_batch.left_out]
    assert len(mini_batch.micro_batches) == micro_batches
    return Tokens.cat([micro.tokens for micro in micros])


def weights(tokens: Tokens) -> dict[int, float]:
    """The weight of each token, by its id."""
    assert tokens.weights_T is not None
    return dict(zip(tokens.token_ids_T.tolist(), tokens.weights_T.tolist(), strict=True))
