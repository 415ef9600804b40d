"""The table at the end of a run: what its figures were at first, at last and in the mean."""

from __future__ import annotations

from typing import Any

VALIDATED = ("val/accuracy_greedy", "val/accuracy", "val/pass_at_k", "val/majority_at_k")
EVERY_STEP = ("policy/entropy", "policy/grad_norm", "policy/silenced_fraction")
EVERY_ROLLOUT = ("reward/mean", "throughput/samples_per_s")


class ClosingTable:
    """Keeps the first and last values of figures, and their sums.

    Args:
        seen: what an earlier start of the run has kept.
    """

    def __init__(self, seen: dict[str, list[float]] | None = None) -> None:
        self.seen = seen or {}
        """Of each figure, its first value, last value, sum and count."""

    def note(self, metrics: dict[str, Any], names: tuple[str, ...]) -> None:
        """Adds the figures of these names that are among the metrics."""
        for name in names:
            if name in metrics:
                value = float(metrics[name])
                first, _, total, count = self.seen.get(name, (value, value, 0.0, 0))
                self.seen[name] = [first, value, total + value, count + 1]

    @property
    def has_moved(self) -> bool:
        """Whether some step had a gradient."""
        return any(self.seen.get("policy/grad_norm", ())[:3])

    def lines(self) -> list[str]:
        """The table; figures that were never noted have no row."""
        rows = [("", "first", "last", "mean")]
        for name in (*VALIDATED, *EVERY_ROLLOUT, *EVERY_STEP):
            if name in self.seen:
                first, last, total, count = self.seen[name]
                mean = "" if name in VALIDATED else _show(name, total / count)
                rows.append((name, _show(name, first), _show(name, last), mean))
        return [f"{name:<26}{first:>11}{last:>11}{mean:>11}" for name, first, last, mean in rows]


def _show(name: str, value: float) -> str:
    if name in VALIDATED:
        return f"{value:.1%}"
    return f"{value:.3%}" if name.endswith("_fraction") else f"{value:.4g}"
