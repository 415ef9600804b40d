"""The loaders that Lightning iterates over."""

from __future__ import annotations

from collections.abc import Callable, Iterator


class SizedLoader:
    """An iterable of known length that makes its batches when they are asked for.

    Lightning fetches one batch ahead of an iterable without a length, which would make every batch
    one step stale.

    Args:
        length: number of batches.
        make: begins to make them.
    """

    def __init__(self, length: int, make: Callable[[], Iterator]) -> None:
        self.length, self.make = length, make

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator:
        yield from self.make()
