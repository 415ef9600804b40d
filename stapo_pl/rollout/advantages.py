"""Group-relative advantages: how much better a response is than the others to the same prompt."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Estimator = Literal["grpo", "dr_grpo", "rloo"]

# Keeps the division finite where rewards hardly differ; the value that verl's users know.
_STD_EPSILON = 1e-6


def group_advantages(rewards_PG: Tensor, estimator: Estimator) -> Tensor:
    """Advantages [P, G]; a group with equal rewards gives exactly 0.

    - grpo: `(r - mean) / (std + 1e-6)`, unbiased std (2402.03300)
    - dr_grpo: `r - mean` (2503.20783)
    - rloo: `r - mean of the others` (2402.14740)
    """
    group_size = rewards_PG.shape[1]
    centered_PG = rewards_PG - rewards_PG.mean(1, keepdim=True)
    centered_PG = centered_PG.where(mixed_groups(rewards_PG)[:, None], 0)
    if estimator == "dr_grpo":
        return centered_PG
    if estimator == "rloo":
        return centered_PG * (group_size / (group_size - 1))
    return centered_PG / (rewards_PG.std(1, keepdim=True) + _STD_EPSILON)


def mixed_groups(rewards_PG: Tensor) -> Tensor:
    """Groups [P] whose rewards are not all equal: only they say which response is better.

    For rewards of 0 and 1 these are the groups neither all right nor all wrong (2503.14476).
    """
    return (rewards_PG != rewards_PG[:, :1]).any(1)
