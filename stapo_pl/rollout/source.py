"""Makes the rollouts of a run, one after another."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

import torch

from stapo_pl.core.types import Decoding, Rollout
from stapo_pl.core.world import World
from stapo_pl.rewards.base import Reward
from stapo_pl.rollout.advantages import fill_advantages
from stapo_pl.rollout.collector import Collector
from stapo_pl.rollout.metrics import rollout_metrics
from stapo_pl.rollout.rounds import fill_rollout
from stapo_pl.rollout.rules import RolloutRules
from stapo_pl.rollout.sizes import BatchSizes
from stapo_pl.rollout.stream import PromptStream


@dataclass
class RolloutSource:
    """Holds everything that a rollout is made with, and makes one whenever it is asked."""

    stream: PromptStream
    """All prompts of the run, in order."""
    collector: Collector
    """Samples completions and has them graded."""
    reward: Reward
    """Judges the responses."""
    rules: RolloutRules
    """Says how rewards are shaped, which groups are kept, and how advantages are computed."""
    decoding: Decoding
    """The distribution that completions are drawn from."""
    sizes: BatchSizes
    """The number of prompts of a rollout, and of completions of each prompt."""
    seed: int
    """The seed of the run."""

    def collect(self, cursor: int, device: torch.device) -> tuple[Rollout, dict[str, float]]:
        """Returns one rollout and the values of its curves. All ranks must call this together.

        Args:
            cursor: the position of the first prompt in the stream.
            device: the device that this rank communicates on.
        """
        world, start = World(), time.perf_counter()
        graded_before = self.collector.grade_seconds
        collect = partial(
            self.collector.collect,
            group_size=self.sizes.group_size,
            decoding=self.decoding,
            reward=self.reward,
            rules=self.rules,
            phase="rollout",
            seed_key=(self.seed, "rollout"),
        )
        rollout = fill_rollout(
            self.stream,
            cursor,
            self.sizes.prompts_per_rollout,
            collect,
            self.rules.dynamic_sampling,
            world,
            device,
        )
        fill_advantages(rollout, self.sizes.group_size, self.rules.advantage, world, device)
        metrics = rollout_metrics(rollout, list(self.reward.worst_components), world, device)
        metrics["time/rollout_s"] = time.perf_counter() - start
        metrics["time/grade_s"] = self.collector.grade_seconds - graded_before
        return rollout, metrics
