"""One progress bar a phase."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from stapo_pl.core.progress import progress_bar


class Bar:
    """Counts what is done of a phase, with its rate and the time left."""

    def __init__(self, bar: tqdm) -> None:
        self._bar = bar
        self._before = 0

    def part(self, name: str) -> None:
        """The next part of the phase begins; `show` counts from 0 again."""
        self._before = self._bar.n
        self._bar.set_description(name, refresh=False)

    def show(self, done: int, note: str = "") -> None:
        """So much of this part is done."""
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(max(self._before + done - self._bar.n, 0))


@contextmanager
def bar(total: int, unit: str, enabled: bool) -> Iterator[Bar]:
    with progress_bar(total=total, unit=f" {unit}", disable=not enabled) as progress:
        yield Bar(progress)
