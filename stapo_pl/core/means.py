"""Means of curves over the batches and ranks of an optimizer step or a validation."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import MaxMetric, MeanMetric, Metric, SumMetric


class Means:
    """Collects the metrics of one optimizer step or validation from all batches and ranks.

    The name decides how values are combined. A name that ends in `_max` gives the maximum, and
    `loss` gives the sum, because every micro-batch adds a share of the loss. All other names give
    the mean over the values, of which there is one for each token or each prompt.
    """

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {}

    def update(self, values: dict[str, Tensor]) -> None:
        """Adds the values of one batch. All ranks must add the same names in the same order."""
        for name, value in values.items():
            if name not in self.metrics:
                kind: type[Metric] = MaxMetric if name.endswith("_max") else MeanMetric
                kind = SumMetric if name == "loss" else kind
                self.metrics[name] = kind(nan_strategy="disable").to(value.device)
            metric, value = self.metrics[name], value.detach().float()
            if isinstance(metric, MaxMetric) and not value.numel():
                value = value.new_tensor(-torch.inf)
            # A rank without values still updates the metric, because `compute` is a collective
            # call that every rank must make. (A weight of 0 would not help: when the check for
            # NaN is off, torchmetrics treats a weight of 0 as 1.)
            metric.update(value)

    def compute(self) -> dict[str, Tensor]:
        """Returns the combined values, which are the same on all ranks, and starts afresh."""
        updated = {name: metric for name, metric in self.metrics.items() if metric.update_called}
        values = {name: metric.compute() for name, metric in updated.items()}
        self.reset()
        return values

    def reset(self) -> None:
        for metric in self.metrics.values():
            metric.reset()
