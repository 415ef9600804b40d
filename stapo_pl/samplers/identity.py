"""Proves that an engine holds the weights that it was sent, by checksums.

The bits of each number are read as an integer, and these integers are summed over each row and each
column of a weight. This is exact, as nothing is rounded, and cheap. An engine may join several
weights into one (queries, keys and values), or cut a weight among ranks. Then it holds a run of
these rows or columns, so each rank can prove its own part.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from stapo_pl.core.errors import TrainingError

# This many numbers are summed at a time, so that no second copy of an embedding is made.
_BLOCK = 2**24
# A kernel of half precision may turn smaller numbers into 0. Also, -0 counts as 0.
_TINY = torch.finfo(torch.float32).tiny
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass
class Checksum:
    """The sums of the bits of a matrix [N, K]. A vector counts as a matrix with K = 1."""

    rows_N: Tensor
    columns_K: Tensor

    @staticmethod
    def of(weight: Tensor, dtype: torch.dtype) -> Checksum:
        """The checksum of a weight that is converted to `dtype`."""
        return Checksum.of_blocks([weight.reshape(len(weight) if weight.ndim else 1, -1)], dtype)

    @staticmethod
    def of_blocks(blocks: Iterable[Tensor], dtype: torch.dtype) -> Checksum:
        """The checksum of a matrix that comes in blocks of rows."""
        rows, columns = [], []
        for matrix in blocks:
            for block in matrix.split(max(1, _BLOCK // max(1, matrix.shape[1]))):
                numbers = block.to(dtype)
                numbers = numbers.masked_fill(numbers.abs() <= _TINY, 0)
                bits = numbers.view(_INTEGERS[dtype.itemsize])
                rows.append(bits.sum(1, dtype=torch.int64))
                columns.append(bits.sum(0, dtype=torch.int64))
        return Checksum(torch.cat(rows), reduce(torch.add, columns))

    @property
    def transposed(self) -> Checksum:
        return Checksum(self.columns_K, self.rows_N)


class SentWeights:
    """The checksums of the weights that a policy sent, to compare an engine with them.

    Args:
        dtype: the type that the engine computes in.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._sums: dict[str, Checksum] = {}

    def noted(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Passes the weights on, and notes the checksum of each."""
        for name, weight in weights:
            self._sums[name] = Checksum.of(weight, self.dtype)
            yield name, weight

    @torch.no_grad()
    def compare(
        self,
        model: nn.Module,
        packed: Mapping[str, Sequence[str]] | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> tuple[list[str], list[str]]:
        """Compares the parameters of an engine's model with the weights that were sent.

        Args:
            model: the engine's model.
            packed: for each layer in which the engine joins several weights, their names. Such a
                layer has the numbers of rows of its parts, over all `tp_size` ranks, in its
                `output_sizes`.
            rank: the number of this rank among those that hold the engine together.
            ranks: how many ranks hold it.

        Returns:
            Two lists. The first has the names of wrong weights: the engine does not hold them as
            they were sent, or they were not sent although others of their layer were. The second
            has the engine's parameters of which nothing can be said, because it has them under
            other names or in another shape.
        """
        wrong, unknown = [], []
        names: dict[nn.Parameter, list[str]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            names.setdefault(parameter, []).append(name)
        for parameter, tied in names.items():
            candidates = (self._parts(name, packed or {}) for name in tied)
            parts = next((p for p in candidates if any(name in self._sums for name in p)), None)
            if parts is None:
                unknown += tied
                continue
            if missing := [name for name in parts if name not in self._sums]:
                wrong += missing
                continue
            sums = [self._sums[part] for part in parts]
            for name in tied:
                layer = model.get_submodule(name.rpartition(".")[0])
                for held in _held(layer, name, parameter, self.dtype):
                    differing = _differing(layer, held, sums, rank, ranks)
                    if differing is None:
                        unknown.append(name)
                    else:
                        own = f" (as {name})" * (len(parts) == 1 and name != parts[0])
                        wrong += [f"{parts[i]}{own}" for i in differing]
        return list(dict.fromkeys(wrong)), list(dict.fromkeys(unknown))

    @staticmethod
    def _parts(name: str, packed: Mapping[str, Sequence[str]]) -> list[str]:
        """The names under which a policy sends the parts of the engine's parameter `name`."""
        *path, layer, kind = ["", *name.split(".")]
        return [".".join([*path, part, kind])[1:] for part in packed.get(layer, [layer])]


def _held(layer: Any, name: str, parameter: nn.Parameter, dtype: torch.dtype) -> Iterator[Checksum]:
    """The checksum of each form in which an engine holds a parameter of a layer.

    On a CPU, vLLM multiplies by a packed copy of the weight, and keeps the original only for the
    head. The packed copy cannot be read, but the layer's output for the identity matrix is the
    transposed weight. This is exact, as all products but one are 0, and it takes as much work as a
    prompt with one token for each row of the identity.
    """
    if parameter.numel():
        yield Checksum.of(parameter, dtype)
    if hasattr(layer, "cpu_linear") and name.endswith(".weight") and parameter.ndim <= 2:
        width = parameter.shape[1] if parameter.numel() else _inputs(layer)
        identity = torch.eye(width, dtype=dtype)
        rows = max(1, _BLOCK // max(width, getattr(layer, "output_size", width)))
        outputs = (layer.quant_method.apply(layer, some) for some in identity.split(rows))
        yield Checksum.of_blocks(outputs, dtype).transposed


def _inputs(layer: Any) -> int:
    return getattr(layer, "input_size_per_partition", None) or layer.input_size


def _differing(
    layer: Any, held: Checksum, parts: Sequence[Checksum], rank: int, ranks: int
) -> list[int] | None:
    """The numbers of the parts that a layer does not hold; None if the shapes do not fit."""
    if hasattr(layer, "org_vocab_size"):
        # The vocabulary is filled up to equal shares. The last ranks may hold nothing but filling.
        rank, ranks, fills = layer.tp_rank, layer.tp_size, True
    else:
        fills = False
    if len(parts) > 1:
        sizes = [size // layer.tp_size for size in layer.output_sizes]
        return _differing_as(held, parts, sizes, rank, ranks, fills)
    # Some models hold a weight transposed.
    found = [
        _differing_as(held, [part], [len(held.rows_N)], rank, ranks, fills)
        for part in (parts[0], parts[0].transposed)
    ]
    return [] if [] in found else next((wrong for wrong in found if wrong is not None), None)


def _differing_as(
    held: Checksum,
    parts: Sequence[Checksum],
    sizes: Sequence[int],
    rank: int,
    ranks: int,
    fills: bool,
) -> list[int] | None:
    """The numbers of the parts that are not held, if this rank has `sizes` rows of each in turn."""
    runs: list[Tensor] = []
    for part, size in zip(parts, sizes, strict=True):
        run = _run(part.rows_N, size, rank, ranks, fills)
        if run is None:
            return None
        runs.append(run)
    is_whole = all(len(run) == len(part.rows_N) for run, part in zip(runs, parts, strict=True))
    has_all_columns = all(len(part.columns_K) == len(held.columns_K) for part in parts)
    if not (is_whole or has_all_columns):
        return None
    wrong = []
    if has_all_columns:
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        for i, (start, run) in enumerate(zip(starts, runs, strict=True)):
            if not _equal(held.rows_N[start : start + len(run)], run):
                wrong.append(i)
    if is_whole:
        width = len(held.columns_K)
        sums = reduce(torch.add, [part.columns_K for part in parts])
        columns = _run(sums, width, rank, ranks, False)
        if columns is None:
            return None
        if not _equal(held.columns_K[: len(columns)], columns):
            wrong = wrong or list(range(len(parts)))
    return wrong


def _run(sums: Tensor, size: int, rank: int, ranks: int, fills: bool) -> Tensor | None:
    """This rank's run of `size` sums; None if the ranks together hold fewer than there are.

    If the ranks together hold more, several ranks have the same run (as for heads of keys and for
    norms). With `fills`, the last ranks have filling instead.
    """
    if size * ranks < len(sums):
        return None
    replicas = 1 if fills else size * ranks // len(sums)
    start = rank // replicas * size
    return sums[start : start + size]


def _equal(held: Tensor, sent: Tensor) -> bool:
    return torch.equal(held, sent.to(held.device))


def check_held(wrong: Sequence[str], unknown: Sequence[str]) -> None:
    """Raises for wrong weights, and warns of parameters of which nothing can be said.

    Args:
        wrong: the first list that `SentWeights.compare` returns.
        unknown: the second one.

    Raises:
        TrainingError: weights are not held as they were sent.
    """
    if wrong:
        raise TrainingError(
            "the sampler holds other weights than the policy sent, nothing was sampled from them: "
            f"{_some(wrong)}"
        )
    if unknown:
        warnings.warn(
            "that the sampler holds the policy's weights cannot be proven of "
            f"{_some(unknown)}: it keeps them in another form; watch rollout/sampler_gap_mean",
            stacklevel=2,
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
