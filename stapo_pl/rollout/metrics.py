"""The curves that are logged once for each rollout."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stapo_pl.core.types import Rollout
from stapo_pl.core.world import World
from stapo_pl.rollout.advantages import mixed_groups


def rollout_metrics(
    rollout: Rollout, components: Sequence[str], world: World, device: torch.device
) -> dict[str, float]:
    """Returns the numbers that describe a rollout, over all ranks.

    Rewards and lengths count all groups that were sampled, not only those that are trained on.

    Args:
        rollout: the groups of this rank.
        components: the names of the parts, if the reward is a weighted sum of others.
        world: the ranks that sampled the rollout together.
        device: the device that this rank communicates on.
    """
    samples = [t for group in rollout.sampled for t in group]
    lengths = [len(t.completion.token_ids) for t in samples]
    rewards_PG = torch.tensor([[t.reward for t in group] for group in rollout.sampled])
    sums = [
        len(samples),
        sum(t.reward for t in samples),
        sum(t.reward**2 for t in samples),
        sum(t.correct for t in samples),
        sum(lengths),
        sum(t.completion.truncated for t in samples),
        len(rewards_PG),
        int(mixed_groups(rewards_PG).sum()),
        *(sum(t.score.outcome == outcome for t in samples) for outcome in ("timeout", "error")),
        sum(t.score.extracted is None for t in samples),
        sum(length for t, length in zip(samples, lengths, strict=True) if t.correct),
        *(sum(t.score.components[name] for t in samples) for name in components),
    ]
    # One tensor holds all sums, so that the ranks communicate once and not once for each curve.
    sums = world.sum(torch.tensor(sums, dtype=torch.float64, device=device)).tolist()
    count, reward, square, correct, length, truncated, groups, mixed, *sums = sums
    timeouts, errors, unparsed, right_length, *parts = sums
    longest = world.gather(torch.tensor([max(lengths, default=0)], device=device)).max()
    metrics = {
        "reward/mean": reward / count,
        "reward/std": max(square / count - (reward / count) ** 2, 0.0) ** 0.5,
        "reward/accuracy": correct / count,
        "reward/zero_signal_fraction": 1 - mixed / groups,
        "reward/timeouts": timeouts,
        "reward/errors": errors,
        "reward/unparsed_fraction": unparsed / count,
        **{
            f"reward/terms/{name}": part / count
            for name, part in zip(components, parts, strict=True)
        },
        "rollout/samples": count,
        "rollout/tokens": length,
        "rollout/length_mean": length / count,
        "rollout/length_longest": longest.item(),
        "rollout/truncated_fraction": truncated / count,
        "rollout/rounds": float(rollout.rounds),
        "rollout/discarded_groups": float(rollout.discarded_groups),
        "rollout/surplus_groups": float(rollout.surplus_groups),
    }
    # Without a right response, or without a wrong one, there is no such length.
    if correct:
        metrics["rollout/length_right"] = right_length / correct
    if count > correct:
        metrics["rollout/length_wrong"] = (length - right_length) / (count - correct)
    return metrics
