"""The loader that Lightning iterates over, for training and for validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator


class SizedLoader:
    """An iterable with a known length that makes each batch only when it is asked for.

    The length matters. If an iterable has none, Lightning always fetches one batch ahead, and every
    batch would then be made one step too early.

    Args:
        length: the number of batches.
        make: a function that returns an iterator over the batches.
    """

    def __init__(self, length: int, make: Callable[[], Iterator]) -> None:
        self.length, self.make = length, make

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator:
        yield from self.make()
