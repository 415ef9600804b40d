"""The rare tokens as the paper prints them: context, token, its numbers, and the alternatives."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stapo_pl.insight.inspector.figures import rounded
from stapo_pl.insight.inspector.pieces import Pieces
from stapo_pl.insight.inspector.reading import Records

GROUPS = ("silenced", "kept", "wrong")
"""Rare tokens that were silenced, those of right answers that were kept, and those of wrong answers
that were kept. Right answers have a positive advantage, and wrong ones a negative advantage."""


def groups_of(records: Records) -> NDArray:
    """Returns the number of the group of each row [N], and -1 for a token that is in none."""
    advantage = records.columns["advantage"]
    is_kept = records.columns["kept"] == 1
    group_N = np.full(len(records), -1)
    group_N[records.rare_N & (advantage != 0) & ~is_kept] = 0
    group_N[records.rare_N & (advantage > 0) & is_kept] = 1
    group_N[records.rare_N & (advantage < 0) & is_kept] = 2
    return group_N


def rare_tokens(records: Records, pieces: Pieces, shown_V: NDArray) -> dict[str, list[Any]]:
    """Returns the columns of the page's lists of rare tokens.

    Args:
        records: all that was recorded.
        pieces: the texts of tokens.
        shown_V: the place of each visit among the completions that the page shows, or -1.
    """
    group_N = groups_of(records)
    rows = np.flatnonzero(group_N >= 0)
    c = {name: column[rows] for name, column in records.columns.items()}
    around = [_around(records, pieces, int(row)) for row in rows]
    alternatives = [records.alternatives[row] or ([], []) for row in rows]
    return {
        "group": group_N[rows].tolist(),
        "shown": shown_V[records.visit_N[rows]].tolist(),
        "rollout": records.rollout_N[rows].tolist(),
        "step": c["step"].tolist(),
        "prompt": c["prompt"].tolist(),
        "sample": c["sample"].tolist(),
        "place": c["place"].tolist(),
        "piece": pieces.numbers(c["token"]),
        "class": records.classes_N()[rows].tolist(),
        "p": rounded(records.p_N[rows]),
        "entropy": rounded(c["entropy"]),
        "advantage": rounded(c["advantage"]),
        "ratio": rounded(np.exp(c["logprob"] - c["old_logprob"])),
        "gap": rounded(records.gap_N[rows]),
        "before": [before for before, _ in around],
        "after": [after for _, after in around],
        "alternatives": [pieces.numbers(ids) for ids, _ in alternatives],
        "probabilities": [rounded(np.array(probs)) for _, probs in alternatives],
    }


def _around(records: Records, pieces: Pieces, row: int) -> tuple[str, str]:
    number = int(records.completion_V[records.visit_N[row]])
    if number < 0:
        return "", ""
    ids = records.completions["token_ids"][number].as_py()
    return pieces.around(ids, int(records.columns["place"][row]))
