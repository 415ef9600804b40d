"""The first stage of advantages: how much better a response is than others, by rewards alone.

A group is all responses to one prompt.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stapo_pl.core.errors import TrainingError
from stapo_pl.core.types import Rollout
from stapo_pl.core.world import World

Estimator = Literal[
    "grpo",
    "grpo_loo",
    "grpo_batch_std",
    "dr_grpo",
    "rloo",
    "opo",
    "gpg",
    "maxrl",
    "reinforce_pp",
    "reinforce_pp_baseline",
]

# It keeps the division finite when the rewards of a group hardly differ. verl uses the same value.
_STD_EPSILON = 1e-6
# It does the same for the variance of all tokens, and it too is verl's.
_VARIANCE_EPSILON = 1e-8


def fill_advantages(
    rollout: Rollout, group_size: int, estimator: Estimator, world: World, device: torch.device
) -> None:
    """Sets the advantages of the groups that are trained on. All ranks must call this together.

    Args:
        rollout: the groups of this rank. Their trajectories are filled in.
        group_size: the number of responses of each group.
        estimator: which of the estimators of `group_advantages` is used.
        world: the ranks that share the rollout.
        device: the device that this rank communicates on.
    """
    rewards = [[t.reward for t in group] for group in rollout.groups]
    lengths = [[sum(t.response_mask) for t in group] for group in rollout.groups]
    advantages_PG = group_advantages(
        torch.tensor(rewards, device=device).view(-1, group_size),
        torch.tensor(lengths, dtype=torch.long, device=device).view(-1, group_size),
        estimator,
        world,
    )
    for group, advantages in zip(rollout.groups, advantages_PG.tolist(), strict=True):
        for trajectory, advantage in zip(group, advantages, strict=True):
            trajectory.advantage = advantage


def group_advantages(
    rewards_PG: Tensor, lengths_PG: Tensor, estimator: Estimator, world: World
) -> Tensor:
    """Returns the advantages [P, G]. All ranks must call this together.

    Below, r is the reward of a response, and mean and std are those of its group, with the unbiased
    std.

    - grpo: `(r - mean) / (std + 1e-6)` (2402.03300)
    - grpo_loo: `(r - mean of the others) / (std + 1e-6)`
    - grpo_batch_std: `(r - mean) / (std of all responses + 1e-6)` (2508.08221)
    - dr_grpo: `r - mean` (2503.20783)
    - rloo: `r - mean of the others` (2402.14740)
    - opo: `r - mean weighted by length` (2505.23585)
    - gpg: `(r - mean) * responses / responses whose reward is not 0` (2504.02546)
    - maxrl: `(r - mean) / (mean + 1e-6)` (2602.02710); rewards must not be negative
    - reinforce_pp: r, whitened over all tokens (2501.03262)
    - reinforce_pp_baseline: `r - mean`, whitened over all tokens (2501.03262)

    "All" means the whole rollout on all ranks. Whitening subtracts the mean and divides by the root
    of the unbiased variance plus 1e-8. Except for the last two, advantages are exactly 0 in a group
    whose rewards are equal. For the last two, they are exactly 0 if all values are equal.

    Args:
        rewards_PG: the shaped rewards of the groups of this rank.
        lengths_PG: the number of tokens of each response that can teach.
        estimator: the name of one of the forms above.
        world: the ranks that share the rollout.

    Raises:
        TrainingError: a reward is negative, and the estimator is maxrl.
    """
    group_size = rewards_PG.shape[1]
    mean_PG = rewards_PG.mean(1, keepdim=True)
    # Rounding can make the mean of equal rewards differ from them by a little, and the division by
    # a tiny std would make that difference large.
    mixed_PG = mixed_groups(rewards_PG)[:, None]
    centered_PG = (rewards_PG - mean_PG).where(mixed_PG, 0)
    match estimator:
        case "grpo":
            return centered_PG / (rewards_PG.std(1, keepdim=True) + _STD_EPSILON)
        case "grpo_loo":
            others_PG = centered_PG * (group_size / (group_size - 1))
            return others_PG / (rewards_PG.std(1, keepdim=True) + _STD_EPSILON)
        case "grpo_batch_std":
            ones_PG = torch.ones_like(rewards_PG)
            _, variance = _moments(rewards_PG, ones_PG, world)
            return centered_PG / (variance.sqrt().to(rewards_PG.dtype) + _STD_EPSILON)
        case "dr_grpo":
            return centered_PG
        case "rloo":
            return centered_PG * (group_size / (group_size - 1))
        case "opo":
            total_P = lengths_PG.sum(1, keepdim=True).clamp(min=1)
            weighted_P = (lengths_PG * rewards_PG).sum(1, keepdim=True) / total_P
            return (rewards_PG - weighted_P).where(mixed_PG, 0)
        case "gpg":
            counts = torch.stack([torch.ones_like(rewards_PG).sum(), (rewards_PG != 0).sum()])
            samples, rewarded = world.sum(counts)
            return centered_PG * samples / rewarded.clamp(min=1)
        case "maxrl":
            _check_not_negative(rewards_PG, world)
            return centered_PG / (mean_PG + _STD_EPSILON)
        case "reinforce_pp":
            return _whitened(rewards_PG, lengths_PG, world)
        case "reinforce_pp_baseline":
            return _whitened(centered_PG, lengths_PG, world)


def mixed_groups(rewards_PG: Tensor) -> Tensor:
    """Returns a mask [P] that is true for the groups whose rewards are not all equal.

    Only a mixed group shows which response is better. If rewards are 0 or 1, a group is mixed
    unless all its responses are right or all are wrong (2503.14476).
    """
    return (rewards_PG != rewards_PG[:, :1]).any(1)


def _moments(values_PG: Tensor, weights_PG: Tensor, world: World) -> tuple[Tensor, Tensor]:
    """Returns the weighted mean and the unbiased variance over all ranks, in float64."""
    values_PG, weights_PG = values_PG.double(), weights_PG.double()
    total, weighted = world.sum(torch.stack([weights_PG.sum(), (weights_PG * values_PG).sum()]))
    mean = weighted / total.clamp(min=1)
    squares = world.sum((weights_PG * (values_PG - mean).square()).sum())
    return mean, squares / (total - 1).clamp(min=1)


def _whitened(values_PG: Tensor, lengths_PG: Tensor, world: World) -> Tensor:
    """Whitens values that all tokens of a response share, over the tokens of all ranks."""
    everything = world.gather(values_PG.flatten())
    if (everything == everything[:1]).all():
        return torch.zeros_like(values_PG)
    mean, variance = _moments(values_PG, lengths_PG, world)
    whitened_PG = (values_PG - mean) * (variance + _VARIANCE_EPSILON).rsqrt()
    return whitened_PG.to(values_PG.dtype)


def _check_not_negative(rewards_PG: Tensor, world: World) -> None:
    negative = int(world.sum((rewards_PG < 0).sum()))
    if negative:
        raise TrainingError(
            f"objective.advantage=maxrl divides by the mean reward of a group, and {negative} "
            "rewards of this rollout are negative; take a reward of 0 and more, and "
            "objective.overlong_buffer=0"
        )
