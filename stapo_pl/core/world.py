"""Sums and other collective operations over all data-parallel ranks."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from stapo_pl.core.errors import ConfigError


class World:
    """The ranks that share a mini-batch.

    If there are several ranks, all of them must make every call, or the call never returns. If
    `torch.distributed` is not initialised, there is one rank, and every method returns its input.
    """

    @property
    def size(self) -> int:
        return dist.get_world_size() if dist.is_initialized() else 1

    @property
    def rank(self) -> int:
        return dist.get_rank() if dist.is_initialized() else 0

    def sum(self, x: Tensor) -> Tensor:
        """Returns the elementwise sum of `x` over all ranks. `x` has the same shape on each."""
        if self.size == 1:
            return x
        x = x.clone()
        dist.all_reduce(x)
        return x

    def barrier(self) -> None:
        """Waits for all ranks."""
        if self.size > 1:
            dist.barrier()

    def gather(self, x_N: Tensor) -> Tensor:
        """Concatenates one-dimensional tensors in the order of the ranks. Lengths may differ."""
        if self.size == 1:
            return x_N
        # `all_gather` needs equal lengths, so every tensor is padded to the longest and cut again.
        lengths = [torch.zeros((), dtype=torch.long, device=x_N.device) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor(len(x_N), device=x_N.device))
        longest = int(max(lengths))
        padded = torch.cat([x_N, x_N.new_zeros(longest - len(x_N))])
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[: int(n)] for part, n in zip(parts, lengths, strict=True)])

    def gather_objects(self, value: Any) -> list[Any]:
        """Returns the values of all ranks, in their order. They are pickled."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def check_equal(self, values: dict[str, int], device: torch.device) -> None:
        """Checks numbers that must be the same on all ranks.

        Args:
            values: the numbers of this rank, by the name that the error uses for them.
            device: the device that this rank communicates on.

        Raises:
            ConfigError: a number differs between ranks. All ranks raise it together.
        """
        mine_N = torch.tensor(list(values.values()), device=device)
        columns = self.gather(mine_N).view(-1, len(values)).T.tolist()
        for name, column in zip(values, columns, strict=True):
            if len(set(column)) > 1:
                raise ConfigError(
                    f"ranks differ in their {name}: {', '.join(map(str, column))}; give all of "
                    "them the same settings and files"
                )
