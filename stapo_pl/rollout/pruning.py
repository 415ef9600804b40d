"""Finds the sequences that teach nothing, so that training need not pass them through the policy.

If all rewards of a group are equal, its advantages are 0, and so is the gradient of many losses.
Such sequences still count in every denominator. Only their passes are left out.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.seeding import seed_for
from stapo_pl.core.types import Trajectory
from stapo_pl.core.world import World


@dataclass
class Pruning:
    """Chooses which sequences of a mini-batch are passed through the policy.

    Args:
        sample: the share of a mini-batch's tokens that is spent on sequences that teach nothing, so
            that curves still show them. At least one such sequence is passed.
        seed: the seed of the run.
        needs_sample: whether curves need such a share. They do not if all sequences have a pass
            without gradient before each step, because a selection looks at all tokens.

    Raises:
        ConfigError: the share lies outside [0, 1].
    """

    sample: float
    seed: int
    needs_sample: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.sample <= 1:
            raise ConfigError(f"data.prune_sample must lie between 0 and 1, got {self.sample}")

    def leave_out(
        self, trajectories: Sequence[Trajectory], rollout: int, mini_batch: int
    ) -> tuple[list[Trajectory], list[Trajectory]]:
        """Returns the trajectories that are passed, and those that are left out.

        Trajectories that teach are passed. A few of the others are drawn, a long one more often
        than a short one. The tokens of a drawn one stand for all tokens that were not drawn: this
        sets the `curve_weight` of all trajectories. The weights of all tokens add up to the number
        of tokens of the mini-batch, and a weighted mean is unbiased.

        Args:
            trajectories: the trajectories of the mini-batch on this rank.
            rollout: the number of the rollout in the run.
            mini_batch: the number of the mini-batch in the rollout.
        """
        for trajectory in trajectories:
            trajectory.curve_weight = 1.0
        silent = [trajectory for trajectory in trajectories if not _teaches(trajectory)]
        if not self.needs_sample:
            return [trajectory for trajectory in trajectories if _teaches(trajectory)], silent
        self._draw(silent, self.sample * _tokens(trajectories), rollout, mini_batch)
        passed = [trajectory for trajectory in trajectories if trajectory.curve_weight]
        return passed, [trajectory for trajectory in silent if not trajectory.curve_weight]

    def _draw(
        self, silent: Sequence[Trajectory], budget: float, rollout: int, mini_batch: int
    ) -> None:
        """Draws about `budget` tokens of the trajectories, and sets the weights of all of them."""
        lengths = [sum(trajectory.response_mask) for trajectory in silent]
        tokens = max(sum(lengths), 1)
        # The mean length of a drawn trajectory, because a long one is drawn more often.
        mean = max(sum(length**2 for length in lengths) / tokens, 1)
        count = max(int(budget / mean), 1)
        if count >= len(silent):
            return
        # All silent tokens are laid in a row, with a mark after every `step` of them. A trajectory
        # is drawn as often as it has marks.
        key = (self.seed, "prune", rollout, mini_batch, World().rank)
        generator = random.Random(seed_for(*key))
        order = generator.sample(range(len(silent)), len(silent))
        step = tokens / count
        start, place = generator.random() * step, 0
        for trajectory, length in ((silent[i], lengths[i]) for i in order):
            marks = math.ceil((place + length - start) / step) - math.ceil((place - start) / step)
            trajectory.curve_weight = marks * step / max(length, 1)
            place += length


def _tokens(trajectories: Sequence[Trajectory]) -> int:
    return sum(sum(trajectory.response_mask) for trajectory in trajectories)


def _teaches(trajectory: Trajectory) -> bool:
    return trajectory.advantage != 0 and any(trajectory.response_mask)
