"""Figures over all recorded tokens, which do not depend on how many of them the page shows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stapo_pl.insight.classes import CLASSES, NO_SIGNAL
from stapo_pl.insight.curves import Curves
from stapo_pl.insight.inspector.reading import Records

_P_BINS, _H_BINS = 60, 50
# So many of the tokens that are not rare are in the scatter of gaps.
_OTHERS = 3000


def rounded(values: NDArray) -> list[float | None]:
    """Returns numbers to 4 significant digits. What is not finite becomes None."""
    return [float(f"{v:.4g}") if math.isfinite(v) else None for v in values.tolist()]


def plane(records: Records) -> dict[str, Any]:
    """Returns how many tokens are in each cell of the plane of log10 p and H."""
    entropy = records.columns["entropy"]
    x = np.log10(np.maximum(records.p_N, 1e-12))
    p_edges = np.linspace(min(x.min(initial=-1), -1), 0, _P_BINS + 1)
    h_edges = np.linspace(0, max(entropy.max(initial=0), 0.1), _H_BINS + 1)
    counts, _, _ = np.histogram2d(np.clip(entropy, 0, None), x, [h_edges, p_edges])
    return {
        "log_p": rounded((p_edges[1:] + p_edges[:-1]) / 2),
        "entropy": rounded((h_edges[1:] + h_edges[:-1]) / 2),
        "counts": counts.astype(int).tolist(),
    }


def class_shares(records: Records) -> Curves:
    """Returns the share of tokens of each class at each step, as curves."""
    steps, place_N = np.unique(records.columns["step"], return_inverse=True)
    weight = np.nan_to_num(records.columns["curve_weight"], nan=1.0)
    sums = np.zeros((len(CLASSES) + 1, len(steps)))
    np.add.at(sums, (records.classes_N(), place_N), weight)
    shares = sums / sums.sum(0)
    return {
        name: dict(zip(steps.tolist(), row, strict=True))
        for name, row in zip((*CLASSES, NO_SIGNAL), shares.tolist(), strict=True)
    }


def gaps(records: Records, group_N: NDArray) -> dict[str, Any]:
    """Returns the gaps between sampler and trainer of silenced, other rare and other tokens.

    Args:
        records: all that was recorded.
        group_N: the number of the group of rare tokens that each row is in.
    """
    gap, p = records.gap_N, records.p_N
    has_gap = np.isfinite(gap)
    others = np.flatnonzero(has_gap & (group_N < 0))
    drawn = np.random.default_rng(0).permutation(others)[:_OTHERS]
    rows = {
        "silenced tokens": group_N == 0,
        "other rare tokens": group_N > 0,
        "all other tokens": group_N < 0,
    }
    return {
        "summary": [
            {"tokens": name} | _summary(gap[has_gap & chosen]) for name, chosen in rows.items()
        ],
        "others": {"p": rounded(p[drawn]), "gap": rounded(gap[drawn]), "of": len(others)},
        "is_zero": bool(has_gap.any() and (gap[has_gap] == 0).all()),
    }


def _summary(gap: NDArray) -> dict[str, Any]:
    if not len(gap):
        return {"count": 0}
    size = np.abs(gap)
    names = ("mean", "median", "p99", "largest")
    values = (gap.mean(), np.median(size), np.quantile(size, 0.99), size.max())
    return {"count": len(gap)} | dict(zip(names, rounded(np.array(values)), strict=True))
