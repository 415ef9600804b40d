"""One rollout and its updates, from top to bottom. Read this file first.

    data module: `Rollouts`                    module: `Learner`

    prompts -> Collector -> Rollout
    Rollout -> cut -> micro-batches ---------> first of a rollout:    score
                                               first of a mini-batch: decide
                                               every micro-batch:     loss
    the sampler gets the new weights <-------- last of a mini-batch:  optimizer step

Lightning stands between the two. It asks the data module for one micro-batch after another and
gives each to the module. When a mini-batch is complete, it makes an optimizer step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from stapo_pl.core.batches import MicroBatch, MiniBatch, RolloutBatch, Tokens, TokenStatistics
from stapo_pl.core.draws import random_numbers
from stapo_pl.core.seeding import reseed
from stapo_pl.core.world import World
from stapo_pl.objectives import Objective
from stapo_pl.objectives.selections import choose
from stapo_pl.rollout.batching import cut
from stapo_pl.rollout.pruning import Pruning
from stapo_pl.rollout.source import RolloutSource
from stapo_pl.training.curves import StepCurves
from stapo_pl.training.events import Events, MiniBatchDone, Phase, RolloutCollected, RolloutScored
from stapo_pl.training.scoring import Scorer, sizes


@dataclass
class Rollouts:
    """Makes rollouts, and gives out each of them as micro-batches."""

    source: RolloutSource
    micro_batches: int
    """The number of micro-batches of a mini-batch on this rank; the most, if tokens decide."""
    max_tokens: int | None
    """The largest size of a micro-batch in tokens, with padding. None sets none."""
    events: Events
    pruning: Pruning | None

    def batches(
        self, cursor: int, version: int, number: int, device: torch.device
    ) -> Iterator[MicroBatch | None]:
        """Collects one rollout, and yields its micro-batches in the order of training.

        Args:
            cursor: the position of the first prompt in the stream of prompts.
            version: the number of optimizer steps that the sampling policy has had.
            number: the number of the rollout in the run, from 0.
            device: the device of this rank.
        """
        rollout, metrics = self.source.collect(cursor, device)
        self.events.tell(RolloutCollected(rollout, metrics))
        # Sampling may use global random numbers, and how many depends on the sampler. A new seed
        # after it makes the updates (dropout) independent of that, and the same after a resume.
        reseed(self.source.seed, "update", number, World().rank)
        source, steps = self.source, self.source.sizes.steps_per_rollout
        most, how = self.micro_batches, (source.decoding.temperature, self.pruning, World())
        batch = cut(rollout, version, number, source.sizes, most, *how, self.max_tokens)
        for step in range(steps):
            self.events.tell(Phase("update", step, steps))
            mini_batch = batch.mini_batches[step % len(batch.mini_batches)].at_step(step)
            # Lightning counts batches, and makes no pass for None. The last one makes the step.
            yield from [None] * (most - len(mini_batch.micro_batches))
            yield from mini_batch.micro_batches


@dataclass
class Learner:
    """Computes the loss of each micro-batch, and what must be known before it."""

    objective: Objective
    scorer: Scorer
    curves: StepCurves
    events: Events
    max_new_tokens: int
    """The largest possible number of tokens of a response."""
    _statistics: list[TokenStatistics] = field(default_factory=list)
    """The statistics of the micro-batches of this mini-batch that have had their pass."""

    def begin(self, micro: MicroBatch) -> None:
        """Prepares the rollout or the mini-batch if this is its first micro-batch."""
        mini_batch = micro.mini_batch
        if micro is mini_batch.micro_batches[0]:
            if mini_batch.step == 0:
                self.score(mini_batch.rollout)
            self.decide(mini_batch)

    def score(self, batch: RolloutBatch) -> None:
        """Fills in old and reference log-probabilities, and token advantages, of a rollout.

        This runs before the first update, while the policy is still the one that was sampled from.
        """
        self.curves.gap.start()
        for number, mini_batch in enumerate(batch.mini_batches):
            self.events.tell(Phase("score", number, len(batch.mini_batches)))
            self.scorer.score(mini_batch, is_first=number == 0)
        self.events.tell(RolloutScored(batch))

    def decide(self, mini_batch: MiniBatch) -> None:
        """Decides which tokens teach, and how much, over the whole mini-batch and all ranks."""
        # After the first step, the policy is no longer the one that made the rollout. A selection
        # that asks for statistics of the current policy then needs a pass of its own.
        is_stale = self.objective.needs_current_statistics and mini_batch.step > 0
        # The copy for the rollout's first step was made before the rollout was scored.
        behavior = mini_batch.rollout.mini_batches[mini_batch.number].behavior
        mini_batch.behavior = behavior
        statistics = self.scorer.statistics(mini_batch) if is_stale else behavior
        world, device = World(), self.scorer.device
        micros = [*mini_batch.micro_batches, *mini_batch.left_out]
        tokens = Tokens.cat([micro.tokens.to(device) for micro in micros])
        seeds = [t.seed for t in (*mini_batch.trajectories, *mini_batch.left_out_trajectories)]
        step = mini_batch.rollout.version + mini_batch.step
        tokens.random_T = random_numbers(seeds, step, tokens.sequence_T)
        self.objective.set_weights(tokens, statistics, world, self.max_new_tokens, behavior)
        mini_batch.selected_by = statistics if self.objective.selections else None
        # The curve shows how many decisions differ from those of the cheaper statistics.
        if is_stale and behavior is not None and self.objective.selections:
            by_behavior_T = choose(self.objective.selections, tokens, behavior, behavior, world)[0]
            self.curves.means.update({"selection_drift": by_behavior_T != (tokens.weights_T != 0)})
        mini_batch.is_empty = int(world.sum(torch.tensor(len(tokens), device=device))) == 0
        for micro, part in zip(micros, tokens.split(sizes(micros)), strict=True):
            micro.tokens = part
        self.curves.left_out(mini_batch, tokens, statistics)

    def loss(self, micro: MicroBatch) -> torch.Tensor:
        """Returns the micro-batch's part of the loss. The parts of all ranks add up to the loss."""
        mini_batch, tokens, is_first = micro.mini_batch, micro.tokens, micro.mini_batch.step == 0
        behavior_T = self.scorer.behavior_logprobs(micro) if is_first else None
        current = self.scorer.passes.current(micro)
        if is_first and behavior_T is None:
            behavior_T = current.logprobs_T.detach()
        if tokens.old_logprobs_T is None:
            # There was no scoring pass because this policy is still the one that was sampled from.
            tokens.old_logprobs_T = current.logprobs_T.detach()
        loss = self.curves.part_of_loss(current, tokens, behavior_T)
        self._statistics.append(current.detach())
        if micro is mini_batch.micro_batches[-1]:  # its passes are complete
            tokens = Tokens.cat([micro.tokens for micro in mini_batch.micro_batches])
            statistics = TokenStatistics.cat(self._statistics)
            self._statistics.clear()
            self.events.tell(MiniBatchDone(mini_batch, tokens, statistics))
        return loss
