"""A KV cache with room for the next tokens, and caches that are joined from others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer


@dataclass
class Span:
    """The columns of a cache that hold tokens, which are those before `end`."""

    end: int


class RoomyLayer(DynamicLayer):
    """The keys and values of a layer, in tensors with room for more tokens.

    transformers' own layer makes new tensors for every token. On a CPU that can take more time than
    the model itself. Here a token is written in place. Columns without a token must be masked.

    Args:
        keys: the keys, [B, heads, columns, head dimension].
        values: the values, in the same layout.
        span: the columns that hold tokens. Whoever calls the model moves its end on afterwards.
    """

    def __init__(self, keys: Tensor, values: Tensor, span: Span) -> None:
        super().__init__()
        self.keys: Tensor = keys
        self.values: Tensor = values
        self.span, self.is_initialized = span, True

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs):
        end = self.span.end
        self.keys[:, :, end : end + key_states.shape[2]] = key_states
        self.values[:, :, end : end + key_states.shape[2]] = value_states
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.span.end

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[2], 0


class RoomyCache(Cache):
    """A cache of `RoomyLayer`. All sequences end at column `span.end`; each has a first column."""

    def __init__(self, states: Sequence[tuple[Tensor, Tensor]], span: Span) -> None:
        super().__init__([RoomyLayer(keys, values, span) for keys, values in states])
        self.span, self.columns = span, states[0][0].shape[2]

    @property
    def is_full(self) -> bool:
        return self.span.end == self.columns


@dataclass
class Part:
    """Some sequences of a cache. They end at the last column that holds tokens."""

    cache: Cache
    rows_B: Tensor
    """The rows of the sequences. One row can stand for several sequences."""


def joined(parts: Sequence[Part], longest: int, room: int) -> RoomyCache:
    """Returns a new cache of sequences of other caches, in the order of the parts.

    The other caches are emptied layer by layer, so that memory is needed for one more layer only.

    Args:
        parts: the sequences.
        longest: the number of tokens of the longest sequence.
        room: the number of tokens that can be added.
    """
    ends = [part.cache.get_seq_length() for part in parts]
    rows = sum(len(part.rows_B) for part in parts)

    def join(tensors: Sequence[Tensor]) -> Tensor:
        _, heads, _, size = tensors[0].shape
        whole = tensors[0].new_empty(rows, heads, longest + room, size)
        # Attention multiplies what is masked by zero, so it must be finite.
        whole[:, :, longest:] = 0
        row = 0
        for part, tensor, end in zip(parts, tensors, ends, strict=True):
            count, columns = len(part.rows_B), min(end, longest)
            whole[row : row + count, :, : longest - columns] = 0
            place = whole[row : row + count, :, longest - columns : longest]
            place.copy_(tensor[part.rows_B, :, end - columns : end])
            row += count
        return whole

    states = []
    for layers in zip(*(part.cache.layers for part in parts), strict=True):
        states.append(
            (join([layer.keys for layer in layers]), join([layer.values for layer in layers]))
        )
        for layer in layers:
            layer.keys = layer.values = None
    return RoomyCache(states, Span(longest))
