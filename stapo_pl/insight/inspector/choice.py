"""Decides which completions the page shows whole, if there are more than a browser can bear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stapo_pl.insight.inspector.reading import Records

MOST_TOKENS = 100_000
_SEED = 0


@dataclass
class Shown:
    """A completion as the page shows it: with the numbers of one visit, or without any."""

    completion: int
    """The number of the completion."""
    visit: int
    """The number of the visit, or -1 if no token of the completion was recorded."""


def choose(
    records: Records, silenced_N: NDArray, most_tokens: int = MOST_TOKENS
) -> tuple[list[Shown], int]:
    """Returns what is shown, in the order of steps, and how many tokens that is.

    Visits with silenced tokens come first, up to half of the room. The others are drawn, and
    completions without any recorded token come last.

    Args:
        records: all that was recorded.
        silenced_N: whether each row was silenced.
        most_tokens: the room, in tokens.
    """
    lengths = records.completions["token_ids"].combine_chunks().value_lengths().to_numpy()
    # A visit whose completion was not written yet has no text to show.
    order = np.flatnonzero(records.completion_V >= 0)
    length_V = np.zeros(len(records.completion_V), int)
    length_V[order] = lengths[records.completion_V[order]]
    has_silenced = np.zeros(len(length_V), bool)
    has_silenced[records.visit_N[silenced_N]] = True
    rng = np.random.default_rng(_SEED)
    order = rng.permutation(order)
    unseen = rng.permutation(np.setdiff1d(np.arange(len(lengths)), records.completion_V))
    first, others = order[has_silenced[order]], order[~has_silenced[order]]
    taken = _fitting(length_V, first, most_tokens // 2)
    for more in (others, first):
        room = most_tokens - int(length_V[taken].sum())
        taken += _fitting(length_V, np.setdiff1d(more, taken, assume_unique=True), room)
    room = most_tokens - int(length_V[taken].sum())
    bare = _fitting(lengths, unseen, room)
    shown = [Shown(int(records.completion_V[v]), v) for v in taken]
    shown += [Shown(number, -1) for number in bare]
    total = int(length_V[taken].sum() + lengths[bare].sum())
    return sorted(shown, key=lambda s: (s.completion, s.visit)), total


def _fitting(lengths: NDArray, order: NDArray, room: int) -> list[int]:
    """Returns the first of them that fit into the room together."""
    return order[np.cumsum(lengths[order]) <= room].tolist()
