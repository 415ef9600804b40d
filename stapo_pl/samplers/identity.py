"""Proof that an engine holds the weights that it was sent: sums of their bits, exact and cheap.

A weight is kept as the sums of its rows and of its columns, taken of its bits as integers. They are
additive: an engine that lays weights together (queries, keys and values), or cuts them among ranks,
holds a run of those rows or columns. So each rank proves its own part, and nothing is rounded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stapo_pl.core.errors import TrainingError

# Numbers that are looked at together, so that no second copy of an embedding is made.
_BLOCK = 2**24
# What is smaller may be 0 in a kernel of half precision; and -0 is 0.
_TINY = torch.finfo(torch.float32).tiny
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass
class Checksum:
    """Sums of a matrix' bits [N, K]; a vector is one of K = 1."""

    rows_N: Tensor
    columns_K: Tensor

    @staticmethod
    def of(weight: Tensor, dtype: torch.dtype) -> Checksum:
        """Of a weight as numbers of `dtype`."""
        return Checksum.of_blocks([weight.reshape(len(weight) if weight.ndim else 1, -1)], dtype)

    @staticmethod
    def of_blocks(blocks: Iterable[Tensor], dtype: torch.dtype) -> Checksum:
        """Of a matrix that comes in runs of rows."""
        rows, columns = [], 0
        for matrix in blocks:
            for block in matrix.split(max(1, _BLOCK // max(1, matrix.shape[1]))):
                numbers = block.to(dtype)
                numbers = numbers.masked_fill(numbers.abs() <= _TINY, 0)
                bits = numbers.view(_INTEGERS[dtype.itemsize])
                rows.append(bits.sum(1, dtype=torch.int64))
                columns += bits.sum(0, dtype=torch.int64)
        return Checksum(torch.cat(rows), columns)

    @property
    def transposed(self) -> Checksum:
        return Checksum(self.columns_K, self.rows_N)


class SentWeights:
    """What a policy sent, to be compared with what an engine made of it.

    Args:
        dtype: what the engine computes with.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._sums: dict[str, Checksum] = {}

    def noted(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """The weights as they come, each added to what was sent."""
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
        """Compares with the parameters of an engine's model.

        Args:
            packed: what the engine lays together in one layer, by that layer's name; a layer says
                by `output_sizes` how long the parts of all `tp_size` ranks are.
            rank: which part of each weight is here, of as many as there are `ranks`.

        Returns:
            Names of weights that the engine does not hold as they were sent, or that were not sent
            although others of their layer were; and the engine's parameters of which nothing can be
            said, as it knows them by other names or in another shape.
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
        """The names under which a policy sends what an engine holds under this one."""
        *path, layer, kind = ["", *name.split(".")]
        return [".".join([*path, part, kind])[1:] for part in packed.get(layer, [layer])]


def _held(
    layer: nn.Module, name: str, parameter: nn.Parameter, dtype: torch.dtype
) -> Iterator[Checksum]:
    """Each form in which an engine holds a parameter of a layer.

    On a CPU, vLLM multiplies by a packed copy, and deletes what it was made from but for the head.
    What it multiplies by is what comes out for rows of the identity: exact, as all but one product
    is 0, and no more work than a prompt of so many tokens.
    """
    if parameter.numel():
        yield Checksum.of(parameter, dtype)
    if hasattr(layer, "cpu_linear") and name.endswith(".weight") and parameter.ndim <= 2:
        width = parameter.shape[1] if parameter.numel() else _inputs(layer)
        identity = torch.eye(width, dtype=dtype)
        rows = max(1, _BLOCK // max(width, getattr(layer, "output_size", width)))
        outputs = (layer.quant_method.apply(layer, some) for some in identity.split(rows))
        yield Checksum.of_blocks(outputs, dtype).transposed


def _inputs(layer: nn.Module) -> int:
    return getattr(layer, "input_size_per_partition", None) or layer.input_size


def _differing(
    layer: nn.Module, held: Checksum, parts: Sequence[Checksum], rank: int, ranks: int
) -> list[int] | None:
    """Which of the parts that were sent a layer does not hold; None if they have other shapes."""
    if hasattr(layer, "org_vocab_size"):
        # Filled up to whole shares, of which the last ranks may have nothing else.
        rank, ranks, fills = layer.tp_rank, layer.tp_size, True
    else:
        fills = False
    if len(parts) > 1:
        sizes = [size // layer.tp_size for size in layer.output_sizes]
        return _differing_as(held, parts, sizes, rank, ranks, fills)
    # Some models keep a weight the other way round.
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
    """Which of the parts are not held one after another, `sizes` rows of each on this rank."""
    runs = [
        _run(part.rows_N, size, rank, ranks, fills) for part, size in zip(parts, sizes, strict=True)
    ]
    is_whole = all(
        run is not None and len(run) == len(part.rows_N)
        for run, part in zip(runs, parts, strict=True)
    )
    has_all_columns = all(len(part.columns_K) == len(held.columns_K) for part in parts)
    if any(run is None for run in runs) or not (is_whole or has_all_columns):
        return None
    wrong = []
    if has_all_columns:
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        for i, (start, run) in enumerate(zip(starts, runs, strict=True)):
            if not _equal(held.rows_N[start : start + len(run)], run):
                wrong.append(i)
    if is_whole:
        width = len(held.columns_K)
        columns = _run(sum(part.columns_K for part in parts), width, rank, ranks, False)
        if columns is None:
            return None
        if not _equal(held.columns_K[: len(columns)], columns):
            wrong = wrong or list(range(len(parts)))
    return wrong


def _run(sums: Tensor, size: int, rank: int, ranks: int, fills: bool) -> Tensor | None:
    """This rank's run of `size` sums; None if there are more than the ranks hold.

    Where the ranks hold more than there are, several have the same (heads of keys, norms), unless
    the last ones are filled up.
    """
    if size * ranks < len(sums):
        return None
    replicas = 1 if fills else size * ranks // len(sums)
    start = rank // replicas * size
    return sums[start : start + size]


def _equal(held: Tensor, sent: Tensor) -> bool:
    return torch.equal(held, sent.to(held.device))


def check_held(wrong: Sequence[str], unknown: Sequence[str]) -> None:
    """Acts on what `SentWeights.compare` found; warns of parameters that nothing can be said of.

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
