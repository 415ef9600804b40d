"""Means over the batches and ranks of a step, a rollout or a validation."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import MaxMetric, MeanMetric, Metric, SumMetric


class Means:
    """Metrics of one optimizer step or validation, gathered over its batches and all ranks.

    Names that end in `_max` are maxima, `loss` is a sum of shares, all others are means over
    tokens, or over prompts.
    """

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {}

    def update(self, values: dict[str, Tensor]) -> None:
        """Adds values, one a token or prompt, or a share of the loss; all ranks add the same."""
        for name, value in values.items():
            if name not in self.metrics:
                kind: type[Metric] = MaxMetric if name.endswith("_max") else MeanMetric
                kind = SumMetric if name == "loss" else kind
                self.metrics[name] = kind(nan_strategy="disable").to(value.device)
            metric, value = self.metrics[name], value.detach().float()
            if isinstance(metric, MaxMetric) and not value.numel():
                value = value.new_tensor(-torch.inf)
            # Without a value there is nothing to add, but a collective to take part in. (A weight
            # of 0 would not do: where NaNs are not looked for, torchmetrics takes it for 1.)
            metric.update(value)

    def compute(self) -> dict[str, Tensor]:
        """Values, the same on all ranks; starts the next step or validation."""
        updated = {name: metric for name, metric in self.metrics.items() if metric.update_called}
        values = {name: metric.compute() for name, metric in updated.items()}
        self.reset()
        return values

    def reset(self) -> None:
        for metric in self.metrics.values():
            metric.reset()
