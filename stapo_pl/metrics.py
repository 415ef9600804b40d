"""What is measured: of a rollout, of an optimizer step, of a validation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics import MaxMetric, MeanMetric, Metric, SumMetric

from stapo_pl.rollout import Rollout
from stapo_pl.world import World


class StepMetrics(nn.Module):
    """Metrics of one optimizer step, gathered over its micro-batches and all ranks.

    Names that end in `_max` are maxima, `loss` is a sum of shares, all others are means over
    tokens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.metrics = nn.ModuleDict()

    def update(self, values: dict[str, Tensor]) -> None:
        """Adds values, one a token, or a share of the loss. All ranks add the same names."""
        for name, value in values.items():
            if name not in self.metrics:
                kind = MaxMetric if name.endswith("_max") else MeanMetric
                kind = SumMetric if name == "loss" else kind
                self.metrics[name] = kind(nan_strategy="disable").to(value.device)
            metric, value = self.metrics[name], value.detach().float()
            # Without a token there is nothing to add, but a collective to take part in.
            if value.numel():
                metric.update(value)
            elif isinstance(metric, MaxMetric):
                metric.update(value.new_tensor(-torch.inf))
            else:
                metric.update(value.new_zeros(1), 0.0)

    def compute(self) -> dict[str, Tensor]:
        """Values of the step, the same on all ranks; starts the next step."""
        updated = {name: metric for name, metric in self.metrics.items() if metric.update_called}
        values = {name: metric.compute() for name, metric in updated.items()}
        self.reset()
        return values

    def reset(self) -> None:
        for metric in self.metrics.values():
            metric.reset()


class PassAtK(Metric):
    """Share of prompts of which at least one of the k samples is right."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("solved", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("prompts", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, correct_PG: Tensor) -> None:
        self.solved += correct_PG.any(1).sum()
        self.prompts += len(correct_PG)

    def compute(self) -> Tensor:
        return self.solved / self.prompts


def rollout_metrics(rollout: Rollout, world: World, device: torch.device) -> dict[str, float]:
    """Scalars of a rollout over all ranks; rewards and lengths are of all that was sampled."""
    samples = [t for group in rollout.sampled for t in group]
    lengths = [len(t.completion.token_ids) for t in samples]
    zero_signal = sum(len({t.reward for t in group}) == 1 for group in rollout.sampled)
    sums = [
        len(samples),
        sum(t.reward for t in samples),
        sum(t.reward**2 for t in samples),
        sum(t.correct for t in samples),
        sum(lengths),
        sum(t.completion.truncated for t in samples),
        zero_signal,
    ]
    count, reward, square, correct, length, truncated, zero_signal = world.sum(
        torch.tensor(sums, dtype=torch.float64, device=device)
    ).tolist()
    return {
        "reward/mean": reward / count,
        "reward/std": max(square / count - (reward / count) ** 2, 0.0) ** 0.5,
        "reward/accuracy": correct / count,
        "reward/zero_signal_groups": zero_signal,
        "rollout/samples": count,
        "rollout/tokens": length,
        "rollout/length_mean": length / count,
        "rollout/truncated_fraction": truncated / count,
        "rollout/rounds": float(rollout.rounds),
        "rollout/discarded_groups": float(rollout.discarded_groups),
        "rollout/surplus_groups": float(rollout.surplus_groups),
    }
