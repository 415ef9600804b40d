"""The loader that Lightning iterates over, for training and for validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator


class SizedLoader:
    """An iterable with a known length that makes each batch only when it is asked for.

    The length matters. If an iterable has none, Lightning fetches the next batch before the present
    one is done, and a rollout would then be sampled before the last update.

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
