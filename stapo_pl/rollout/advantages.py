"""Group-relative advantages: how much better a response is than the other responses of its group.

A group is all responses to one prompt.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Estimator = Literal["grpo", "dr_grpo", "rloo"]

# It keeps the division finite when the rewards of a group hardly differ. verl uses the same value.
_STD_EPSILON = 1e-6


def group_advantages(rewards_PG: Tensor, estimator: Estimator) -> Tensor:
    """Returns the advantages [P, G]. They are exactly 0 in a group whose rewards are equal.

    - grpo: `(r - mean) / (std + 1e-6)` with the unbiased std (2402.03300)
    - dr_grpo: `r - mean` (2503.20783)
    - rloo: `r - mean of the others` (2402.14740)
    """
    group_size = rewards_PG.shape[1]
    centered_PG = rewards_PG - rewards_PG.mean(1, keepdim=True)
    # Rounding can make the mean of equal rewards differ from them by a little, and the division by
    # a tiny std would make that difference large.
    centered_PG = centered_PG.where(mixed_groups(rewards_PG)[:, None], 0)
    if estimator == "dr_grpo":
        return centered_PG
    if estimator == "rloo":
        return centered_PG * (group_size / (group_size - 1))
    return centered_PG / (rewards_PG.std(1, keepdim=True) + _STD_EPSILON)


def mixed_groups(rewards_PG: Tensor) -> Tensor:
    """Returns a mask [P] that is true for the groups whose rewards are not all equal.

    Only a mixed group shows which response is better. If rewards are 0 or 1, a group is mixed
    unless all its responses are right or all are wrong (2503.14476).
    """
    return (rewards_PG != rewards_PG[:, :1]).any(1)
