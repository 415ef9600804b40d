"""Reductions over all data-parallel ranks. One process is a world of its own."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from stapo_pl.core.errors import ConfigError


class World:
    """The ranks that share a mini-batch. With several, all ranks must make every call.

    Without an initialised `torch.distributed` it is the identity.
    """

    @property
    def size(self) -> int:
        return dist.get_world_size() if dist.is_initialized() else 1

    @property
    def rank(self) -> int:
        return dist.get_rank() if dist.is_initialized() else 0

    def sum(self, x: Tensor) -> Tensor:
        """Elementwise sum over ranks; `x` has the same shape on each."""
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
        """Concatenation in rank order of one-dimensional tensors whose lengths may differ."""
        if self.size == 1:
            return x_N
        lengths = [torch.zeros((), dtype=torch.long, device=x_N.device) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor(len(x_N), device=x_N.device))
        longest = int(max(lengths))
        padded = torch.cat([x_N, x_N.new_zeros(longest - len(x_N))])
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[: int(n)] for part, n in zip(parts, lengths, strict=True)])

    def check_equal(self, values: dict[str, int], device: torch.device) -> None:
        """Checks numbers that must be the same on all ranks.

        Raises:
            ConfigError: one is not; on all ranks.
        """
        mine_N = torch.tensor(list(values.values()), device=device)
        columns = self.gather(mine_N).view(-1, len(values)).T.tolist()
        for name, column in zip(values, columns, strict=True):
            if len(set(column)) > 1:
                raise ConfigError(
                    f"ranks differ in their {name}: {', '.join(map(str, column))}; give all of "
                    "them the same settings and files"
                )
