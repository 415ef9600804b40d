"""The table at the end of a run. It shows the first, the last and the mean value of each figure."""

from __future__ import annotations

from typing import Any

VALIDATED = ("val/accuracy_greedy", "val/accuracy", "val/pass_at_k", "val/majority_at_k")
EVERY_STEP = ("policy/entropy", "policy/grad_norm", "policy/silenced_fraction")
EVERY_ROLLOUT = ("reward/mean", "throughput/samples_per_s")


class ClosingTable:
    """Keeps the first value, the last value and the sum of each figure.

    Args:
        seen: the values that were kept before the run was resumed.
    """

    def __init__(self, seen: dict[str, list[float]] | None = None) -> None:
        self.seen = seen or {}
        """The first value, the last value, the sum and the count of each figure, by name."""

    def note(self, metrics: dict[str, Any], names: tuple[str, ...]) -> None:
        """Adds the figures with these names, if they are among the metrics."""
        for name in names:
            if name in metrics:
                value = float(metrics[name])
                first, _, total, count = self.seen.get(name, (value, value, 0.0, 0))
                self.seen[name] = [first, value, total + value, count + 1]

    @property
    def has_moved(self) -> bool:
        """Whether any optimizer step had a gradient other than 0."""
        return any(self.seen.get("policy/grad_norm", ())[:3])

    def lines(self) -> list[str]:
        """Returns the lines of the table. A figure that was never noted has no row."""
        rows = [("", "first", "last", "mean")]
        for name in (*VALIDATED, *EVERY_ROLLOUT, *EVERY_STEP):
            if name in self.seen:
                first, last, total, count = self.seen[name]
                mean = "" if name in VALIDATED else show(name, total / count)
                rows.append((name, show(name, first), show(name, last), mean))
        return [f"{name:<26}{first:>11}{last:>11}{mean:>11}" for name, first, last, mean in rows]


def show(name: str, value: float) -> str:
    """Returns a value of a curve as text. Accuracies and fractions are in per cent."""
    if name.startswith("val/"):
        return f"{value:.1%}"
    return f"{value:.3%}" if name.endswith("_fraction") else f"{value:.4g}"
