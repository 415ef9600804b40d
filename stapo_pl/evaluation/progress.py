"""The progress bars of an evaluation: one for sampling, one for grading."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from stapo_pl.core.progress import progress_bar


class Bar:
    """A progress bar of a phase that has several parts."""

    def __init__(self, bar: tqdm) -> None:
        self._bar = bar
        self._before = 0

    def part(self, name: str) -> None:
        """Begins the next part of the phase. From now on, `show` counts from 0 again."""
        self._before = self._bar.n
        self._bar.set_description(name, refresh=False)

    def show(self, done: int, note: str = "") -> None:
        """Shows how much of the present part is done, and a note."""
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(max(self._before + done - self._bar.n, 0))


@contextmanager
def bar(total: int, unit: str, enabled: bool) -> Iterator[Bar]:
    """Shows a progress bar while the block runs.

    Args:
        total: the number of things to do in all parts together.
        unit: the name of these things.
        enabled: whether the bar is shown. Only the first rank shows one.
    """
    with progress_bar(total=total, unit=f" {unit}", disable=not enabled) as progress:
        yield Bar(progress)
