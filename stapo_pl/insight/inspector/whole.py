"""The completions that the page shows whole, and the numbers of their tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from stapo_pl.insight.inspector.choice import Shown
from stapo_pl.insight.inspector.figures import rounded
from stapo_pl.insight.inspector.pieces import Pieces
from stapo_pl.insight.inspector.reading import Records

_TEXTS = (
    "rollout", "prompt", "sample", "version", "trained", "question", "answer", "extracted",
    "outcome", "reason", "correct", "truncated",
)  # fmt: skip
_NUMBERS = ("reward", "score", "advantage")


def completions(records: Records, shown: list[Shown], pieces: Pieces) -> dict[str, list[Any]]:
    """Returns the columns of the completions that are shown.

    `first` and `count` say which rows of `tokens` belong to the completion. `step` is that of the
    visit, or None if no token of the completion was recorded.

    Args:
        records: all that was recorded.
        shown: the completions to show.
        pieces: the texts of tokens.
    """
    columns: dict[str, list[Any]] = {name: [] for name in (*_TEXTS, *_NUMBERS)}
    columns |= {"step": [], "pieces": [], "first": [], "count": []}
    first = 0
    for one in shown:
        row = records.completion(one.completion)
        step_N = records.columns["step"][_rows(records, one)]
        for name in _TEXTS:
            columns[name].append(row[name])
        for name in _NUMBERS:
            value = np.nan if row[name] is None else row[name]
            columns[name] += rounded(np.array([value]))
        columns["step"].append(int(step_N[0]) if len(step_N) else None)
        columns["pieces"].append(pieces.numbers(row["token_ids"]))
        columns["first"].append(first)
        columns["count"].append(len(step_N))
        first += len(step_N)
    return columns


def tokens(records: Records, shown: list[Shown]) -> dict[str, Any]:
    """Returns the columns of the recorded tokens of the completions that are shown."""
    spans = [_rows(records, one) for one in shown]
    parts = [np.arange(span.start, span.stop) for span in spans]
    rows = np.concatenate([np.arange(0), *parts])
    c = {name: column[rows] for name, column in records.columns.items()}
    return {
        "place": c["place"].tolist(),
        "p": rounded(records.p_N[rows]),
        "entropy": rounded(c["entropy"]),
        "advantage": rounded(c["advantage"]),
        "ratio": rounded(np.exp(c["logprob"] - c["old_logprob"])),
        "gap": rounded(records.gap_N[rows]),
        "class": records.classes_N()[rows].tolist(),
        "kept": rounded(c["kept"]),
        "masks": {name: rounded(mask[rows]) for name, mask in records.masks.items()},
    }


def _rows(records: Records, one: Shown) -> slice:
    """Returns which rows belong to a visit. A completion without one has none."""
    if one.visit < 0:
        return slice(0, 0)
    starts_V, next_visit = records.starts_V, one.visit + 1
    end = starts_V[next_visit] if next_visit < len(starts_V) else len(records)
    return slice(int(starts_V[one.visit]), int(end))
