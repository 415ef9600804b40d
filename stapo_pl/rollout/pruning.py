"""Finds the sequences that teach nothing, so that training need not pass them through the policy.

If all rewards of a group are equal, its advantages are 0, and so is the gradient of many losses.
Such sequences still count in every denominator. Only their passes are left out.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from stapo_pl.core.seeding import seed_for
from stapo_pl.core.types import Trajectory


def mark(
    trajectories: Sequence[Trajectory], number: int, sample: float, key: tuple[int | str, ...]
) -> None:
    """Sets the `curve_weight` of each trajectory of a mini-batch on this rank.

    Trajectories that teach get 1. A few of the others are drawn, so that curves still show the
    whole mini-batch: a long one is drawn more often, and the tokens of one that was drawn stand for
    as many tokens as its probability asks for. Their weights therefore add up to the number of all
    tokens, and a weighted mean is unbiased. The rest gets 0 and has no pass.

    Args:
        trajectories: the trajectories of the mini-batch.
        number: the number of the mini-batch in its rollout.
        sample: the tokens of the drawn trajectories, as a share of all tokens of the mini-batch. At
            least one trajectory is drawn.
        key: what the draw depends on, besides the number.
    """
    silent = []
    for trajectory in trajectories:
        trajectory.curve_weight = 1.0
        if trajectory.advantage == 0 or not any(trajectory.response_mask):
            silent.append(trajectory)
    lengths = [sum(trajectory.response_mask) for trajectory in silent]
    tokens = sum(lengths)
    # The mean length of what is drawn, because a long one is drawn more often.
    drawn_length = sum(length**2 for length in lengths) / max(tokens, 1)
    budget = sample * sum(sum(trajectory.response_mask) for trajectory in trajectories)
    count = max(1, int(budget / max(drawn_length, 1)))
    if count >= len(silent):
        return
    generator = random.Random(seed_for(*key, number))
    order = generator.sample(range(len(silent)), len(silent))
    # All silent tokens are laid in a row, with a mark after every `step` of them. A trajectory is
    # drawn as often as it has marks.
    step = max(tokens, 1) / count
    start, place = generator.random() * step, 0
    for trajectory, length in ((silent[i], lengths[i]) for i in order):
        marks = math.ceil((place + length - start) / step) - math.ceil((place - start) / step)
        trajectory.curve_weight = marks * step / max(length, 1)
        place += length
