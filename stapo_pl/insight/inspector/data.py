"""Everything that the page shows of a run, as columns that become JSON."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from stapo_pl.insight.classes import CLASSES, NO_SIGNAL
from stapo_pl.insight.curves import Curves, read_curves
from stapo_pl.insight.inspector import figures, whole
from stapo_pl.insight.inspector.choice import MOST_TOKENS, Shown, choose
from stapo_pl.insight.inspector.figures import rounded
from stapo_pl.insight.inspector.frequent import most_frequent
from stapo_pl.insight.inspector.pieces import Pieces
from stapo_pl.insight.inspector.rare import groups_of, rare_tokens
from stapo_pl.insight.inspector.reading import Records, read_records

_CURVES = ("reward/mean", "policy/entropy", "policy/grad_norm", "policy/silenced_fraction")
_SHARE = re.compile(r"tokens/(\w+)/share")
NO_RECORDS = (
    "This run recorded no tokens. Switch them on with recorder.tokens=all (or sampled, or rare) in "
    "the next run."
)


def page_data(
    folder: Path, tokenizer: PreTrainedTokenizerBase | None, most_tokens: int = MOST_TOKENS
) -> dict[str, Any]:
    """Returns what the page shows.

    Args:
        folder: the run folder.
        tokenizer: the tokenizer of the run. None shows tokens by their numbers.
        most_tokens: how many tokens of completions the page may hold.
    """
    curves = read_curves(folder)
    data: dict[str, Any] = {
        "run": f"{folder.parent.name}/{folder.name}",
        "curves": {name: _line(curves[name]) for name in _CURVES if name in curves},
        "classes": [*CLASSES, NO_SIGNAL],
        "notes": [] if tokenizer else ["The run has no config.yaml: tokens are shown by number."],
    }
    records = read_records(folder)
    if records is None:
        data["notes"].append(NO_RECORDS)
        return data | {"records": False, "rollouts": _rollouts_of_curves(curves)}
    group_N = groups_of(records)
    shown, total = choose(records, group_N == 0, most_tokens)
    pieces = Pieces(tokenizer)
    shown_V = np.full(len(records.starts_V), -1)
    for number, one in enumerate(shown):
        if one.visit >= 0:
            shown_V[one.visit] = number
    rare = rare_tokens(records, pieces, shown_V)
    data["notes"] += _notes(records, group_N, shown, total)
    data |= {
        "records": True,
        "tau_p": records.facts.tau_p,
        "tau_h": sorted(records.tau_h.items()),
        "facts": _facts(records, group_N, shown, total),
        "rollouts": _rollouts(records),
        "rare": rare,
        "completions": whole.completions(records, shown, pieces),
        "tokens": whole.tokens(records, shown),
        "plane": figures.plane(records),
        "shares": _shares(records, curves),
        "gaps": figures.gaps(records, group_N),
        "frequent": {
            name: most_frequent(pieces.text(t) for t in records.columns["token"][group_N == group])
            for group, name in enumerate(("silenced", "kept"))
        },
    }
    return data | {"pieces": pieces.texts(), "ids": pieces.ids()}


def _facts(
    records: Records, group_N: NDArray, shown: list[Shown], total: int
) -> list[tuple[str, str]]:
    facts, counts = records.facts, np.bincount(group_N + 1, minlength=4)
    return [
        ("objective", facts.objective),
        ("optimizer steps", f"{len(np.unique(records.columns['step'])):,}"),
        ("rollouts", f"{len(np.unique(records.completions['rollout'].to_numpy())):,}"),
        ("tokens recorded", f"{len(records):,} of {records.total:,} that had a pass"),
        ("tokens on this page", f"{total:,} in {len(shown):,} completions"),
        ("of these with numbers", f"{_with_numbers(records, shown):,}"),
        ("silenced rare tokens", f"{counts[1]:,}"),
        ("kept rare tokens, A > 0", f"{counts[2]:,}"),
        ("kept rare tokens, A < 0", f"{counts[3]:,}"),
        ("tau_p", f"{facts.tau_p:g}"),
        ("temperature", f"{facts.temperature:g}"),
    ]


def _with_numbers(records: Records, shown: list[Shown]) -> int:
    visits = [one.visit for one in shown if one.visit >= 0]
    return int(np.isin(records.visit_N, visits).sum())


def _notes(records: Records, group_N: NDArray, shown: list[Shown], total: int) -> list[str]:
    """Returns what the page does not show, and what was not recorded."""
    notes = []
    visits, completions = len(records.starts_V), len(records.completions)
    unseen = completions - len(np.unique(records.completion_V[records.completion_V >= 0]))
    if len(shown) < visits + unseen:
        notes.append(
            f"The page holds {len(shown):,} of {visits + unseen:,} completions ({total:,} tokens). "
            "Those with silenced tokens came first, up to half of the room, and the others were "
            "drawn. All rare tokens are listed, and the plane, the shares, the gaps and the "
            "frequent tokens count every recorded token."
        )
    if len(records) < records.total:
        notes.append(
            f"{records.total - len(records):,} tokens were not recorded (recorder.tokens was "
            f"{' and '.join(records.kinds)}): they have no colour, and are in no figure."
        )
    if records.left_out:
        notes.append(
            f"{records.left_out:,} tokens were in sequences that had no pass, as they teach "
            "nothing; they have no numbers."
        )
    if missing := int((records.completion_V < 0).sum()):
        notes.append(f"The completions of {missing:,} visits are not recorded (yet).")
    plain = int((~records.rare_N & (records.columns["kept"] == 0)).sum())
    if plain:
        notes.append(
            f"{plain:,} tokens are silenced though they are not rare; they are marked in the "
            "completions and are not in the lists of rare tokens."
        )
    if not records.tau_h:
        notes.append("No step had an entropy threshold, so every H counts as high.")
    return notes


def _rollouts(records: Records) -> list[tuple[int, int, int]]:
    """Returns the number of each rollout, and its first and last step."""
    step_N = records.columns["step"]
    of_rollout = {int(n): step_N[records.rollout_N == n] for n in np.unique(records.rollout_N)}
    return [(n, int(steps.min()), int(steps.max())) for n, steps in of_rollout.items()]


def _rollouts_of_curves(curves: Curves) -> list[tuple[int, int, int]]:
    """Returns the same, of the curve that has a point at the last step of each rollout."""
    ends = list(curves.get("reward/mean", {}))
    starts = [0, *(end + 1 for end in ends)]
    return [(n, starts[n], end) for n, end in enumerate(ends)]


def _shares(records: Records, curves: Curves) -> dict[str, Any]:
    """Returns the shares of classes: the run's own curves if it has them, else of the records."""
    logged = {m[1]: points for name, points in curves.items() if (m := _SHARE.fullmatch(name))}
    shares = logged or figures.class_shares(records)
    return {name: _line(points) for name, points in shares.items()}


def _line(points: dict[int, float]) -> tuple[list[int], list[float | None]]:
    """Returns the steps of a curve, and its values."""
    return list(points), rounded(np.array(list(points.values())))
