"""Means of curves over the batches and ranks of an optimizer step or a validation."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import MaxMetric, Metric, SumMetric


class _Mean(Metric):
    """A weighted mean. (torchmetrics' own ignores the weights if its check for NaN is off.)"""

    full_state_update = False
    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "weight"):
            self.add_state(name, torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, values: Tensor, weights: Tensor) -> None:
        self.total += (values * weights).sum()
        self.weight += weights.sum()

    def compute(self) -> Tensor:
        return self.total / self.weight


class Means:
    """Collects the metrics of one optimizer step or validation from all batches and ranks.

    The name decides how values are combined. A name that ends in `_max` gives the maximum, and
    `loss` gives the sum, because every micro-batch adds a share of the loss. All other names give
    the mean over the values, of which there is one for each token or each prompt.
    """

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {}

    def update(self, values: dict[str, Tensor], weights: Tensor | None = None) -> None:
        """Adds the values of one batch. All ranks must add the same names in the same order.

        Args:
            values: the values by the names of their metrics.
            weights: the weight of each value in means. None gives all the same weight.
        """
        for name, value in values.items():
            if name not in self.metrics:
                if name.endswith("_max"):
                    made: Metric = MaxMetric(nan_strategy="disable")
                else:
                    made = SumMetric(nan_strategy="disable") if name == "loss" else _Mean()
                self.metrics[name] = made.to(value.device)
            metric, value = self.metrics[name], value.detach().float()
            if isinstance(metric, MaxMetric) and not value.numel():
                value = value.new_tensor(-torch.inf)
            # A rank without values still updates the metric, because `compute` is a collective
            # call that every rank must make.
            if isinstance(metric, _Mean):
                metric.update(value, torch.ones_like(value) if weights is None else weights)
            else:
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
