"""A KV cache with a slot for each sequence, so that sequences can come and go."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer


@dataclass
class Span:
    """The columns of a cache that are in use: from `first` up to, but without, `end`."""

    first: int = 0
    end: int = 0


class SlotLayer(DynamicLayer):
    """The keys and values of a layer, in buffers with room for more tokens.

    transformers' own layer makes new tensors for every token. On a CPU that can take more time than
    the model itself.

    Args:
        keys: the buffer of the keys, [slots, heads, columns, head dimension].
        values: the buffer of the values, in the same layout.
        span: the columns in use. Whoever calls the model moves its end on afterwards.
    """

    def __init__(self, keys: Tensor, values: Tensor, span: Span) -> None:
        super().__init__()
        self.keys: Tensor = keys
        self.values: Tensor = values
        self.span, self.is_initialized = span, True

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs):
        first, start = self.span.first, self.span.end
        end = start + key_states.shape[2]
        self.keys[:, :, start:end] = key_states
        self.values[:, :, start:end] = value_states
        return self.keys[:, :, first:end], self.values[:, :, first:end]

    def get_seq_length(self) -> int:
        return self.span.end - self.span.first


class SlotCache(Cache):
    """All sequences end at the same column. A short one begins at a later column than a long one.

    Args:
        like: a cache of the model, with keys and values.
        slots: the number of sequences.
        columns: the number of tokens that there is room for.
    """

    def __init__(self, like: Cache, slots: int, columns: int) -> None:
        self.span, self.columns = Span(), columns

        def room(x: Tensor) -> Tensor:
            # Zeros, because attention multiplies what it may not see by zero.
            return x.new_zeros(slots, x.shape[1], columns, x.shape[3])

        self.slot_layers = [
            SlotLayer(room(keys), room(values), self.span) for keys, values in _states(like)
        ]
        super().__init__([*self.slot_layers])

    @property
    def is_full(self) -> bool:
        return self.span.end == self.columns

    def put(self, slots_B: Tensor, source: Cache, rows_B: Tensor) -> None:
        """Copies rows of another cache into slots, so that they end at the present end."""
        end = self.span.end
        start = end - source.get_seq_length()
        for layer, (keys, values) in zip(self.slot_layers, _states(source), strict=True):
            layer.keys[slots_B, :, start:end] = keys[rows_B]
            layer.values[slots_B, :, start:end] = values[rows_B]

    def keep(self, slots_B: Tensor) -> None:
        """Drops all other slots."""
        for layer in self.slot_layers:
            layer.keys, layer.values = layer.keys[slots_B], layer.values[slots_B]

    def move(self, end: int) -> None:
        """Moves the columns in use, so that they end at column `end`."""
        old = slice(self.span.first, self.span.end)
        self.span.first, self.span.end = end - (old.stop - old.start), end
        new = slice(self.span.first, end)
        for layer in self.slot_layers:
            for buffer in (layer.keys, layer.values):
                buffer[:, :, new] = buffer[:, :, old].clone()


def _states(cache: Cache) -> list[tuple[Tensor, Tensor]]:
    """The keys and values of each layer, [B, heads, columns, head dimension]."""
    return [(layer.keys, layer.values) for layer in cache.layers]  # type: ignore[union-attr,misc]
