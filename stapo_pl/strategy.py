"""Sharding of the policy over all ranks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from stapo_pl.policy import Policy


class FSDP(ModelParallelStrategy):
    """Fully sharded data parallel (FSDP2): each rank keeps a share of every parameter.

    Weights, gradients and optimizer state are fp32, also where the passes compute in bfloat16;
    gradients are summed over ranks in fp32. Checkpoints are folders to which each rank writes its
    share; a rename makes them complete.

    Args:
        compute_dtype: of forward and backward passes; `auto` is bfloat16 on a GPU and float32 on a
            CPU.
    """

    def __init__(self, compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto") -> None:
        super().__init__(tensor_parallel_size=1)
        self.compute_dtype = compute_dtype

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def shard(self, policy: Policy) -> None:
        """Shards a policy in place, each decoder layer on its own and then what is left."""
        compute = self.compute_dtype
        if compute == "auto":
            compute = "bfloat16" if self.root_device.type == "cuda" else "float32"
        settings = {
            "mesh": self.device_mesh["data_parallel"],
            "mp_policy": MixedPrecisionPolicy(getattr(torch, compute), torch.float32),
        }
        for layer in decoder_layers(policy):
            fully_shard(layer, **settings)
        fully_shard(policy, **settings)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None
    ) -> None:
        path = Path(self.broadcast(filepath))
        unfinished = path.with_name(f"{path.name}.unfinished")
        if self.is_global_zero:
            shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
        self.barrier()
        super().save_checkpoint(checkpoint, unfinished, storage_options)
        self.barrier()
        if self.is_global_zero:
            shutil.rmtree(path, ignore_errors=True)
            os.replace(unfinished, path)
        self.barrier()


def decoder_layers(policy: Policy) -> list[nn.Module]:
    """The layers that transformers' models name as not to be split between devices."""
    names = set(policy.model._no_split_modules or ())
    return [module for module in policy.model.modules() if type(module).__name__ in names]
