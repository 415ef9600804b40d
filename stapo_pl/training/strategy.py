"""How several ranks hold the policy: each holds all of it (DDP), or a share of it (FSDP)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed.checkpoint as dcp
from lightning.pytorch.strategies import (
    DDPStrategy,
    ModelParallelStrategy,
    StrategyRegistry,
)
from torch import nn
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.loading import check
from stapo_pl.policy.lora import initial_adapter
from stapo_pl.policy.model import Policy, is_adapter
from stapo_pl.policy.saved import check_shapes
from stapo_pl.policy.streaming import WeightFiles, empty_policy, meta_parameters
from stapo_pl.training.checkpoint_io import whole_or_gone


class DDP(DDPStrategy):
    """Distributed data parallel: every rank holds the whole policy.

    Args:
        timeout: hours that ranks wait for each other, for example for the rank whose responses are
            the longest.

    Raises:
        ConfigError: the timeout is not positive.
    """

    def __init__(self, timeout: float = 6.0) -> None:
        super().__init__(timeout=_hours(timeout))


# Lightning also takes this strategy if none is set and there are several devices.
StrategyRegistry.register("ddp", DDP, "Every rank holds the whole policy.", override=True)


class FSDP(ModelParallelStrategy):
    """Fully sharded data parallel (FSDP2): each rank holds a share of every parameter.

    Weights, gradients and optimizer state are fp32, even if the passes compute in bfloat16, and
    gradients are summed over ranks in fp32. No rank ever holds the whole policy: the first rank
    reads one tensor at a time and sends each rank its share. A checkpoint is a folder into which
    each rank writes its share; it gets its name when all shares are written.

    Args:
        cpu_offload: whether shares, gradients and optimizer state are kept in the host's memory,
            where the optimizer then steps. This is for models that do not fit otherwise.
        timeout: hours that ranks wait for each other, for example for the rank whose responses are
            the longest.

    Raises:
        ConfigError: the timeout is not positive.
    """

    compute_dtype = torch.float32
    """The type that forward and backward passes compute in. The trainer sets it."""

    def __init__(self, cpu_offload: bool = False, timeout: float = 6.0) -> None:
        # What is offloaded is also reduced on the host, for example for gradient norms.
        backend = "cpu:gloo,cuda:nccl" if cpu_offload and torch.cuda.is_available() else None
        super().__init__(
            tensor_parallel_size=1,
            process_group_backend=backend,
            timeout=_hours(timeout),
        )
        self.cpu_offload = cpu_offload

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def model_to_device(self) -> None:
        module: Any = self.lightning_module
        policy = module.policy
        if self.cpu_offload:
            module.policy = None  # FSDP moves it to the device layer by layer
        super().model_to_device()
        module.policy = policy

    def load(self, path: str, key: str, prepare: Callable[[Policy], None]) -> Policy:
        """The policy of a model folder or hub name, sharded.

        Args:
            path: the model folder or hub name.
            key: the setting that names it, for errors.
            prepare: a function that is applied to the policy before it is sharded.

        Raises:
            ConfigError: it cannot be loaded, or it fails `loading.check`.
        """
        policy = empty_policy(path, key)
        with meta_parameters():
            prepare(policy)
        self._shard(policy)
        self._fill(policy, path, key)
        check(policy, f"{key}={path}", self.root_device)
        # Otherwise the root's parameters stay gathered until the first backward pass.
        cast(FSDPModule, policy).reshard()
        return policy

    def _shard(self, policy: Policy) -> None:
        """Shards a policy in place: first each decoder layer by itself, then the rest, the root."""
        pin = self.root_device.type == "cuda"
        offload = CPUOffloadPolicy(pin_memory=pin) if self.cpu_offload else OffloadPolicy()
        settings: dict[str, Any] = {
            "mesh": self.device_mesh["data_parallel"],
            "mp_policy": MixedPrecisionPolicy(self.compute_dtype, torch.float32),
            "offload_policy": offload,
        }
        for layer in policy.decoder_layers:
            fully_shard(layer, **settings)
        # A policy without a backward pass need not stay gathered for it.
        frozen = not any(p.requires_grad for p in policy.parameters())
        fully_shard(policy, reshard_after_forward=frozen, **settings)
        register_fsdp_forward_method(policy, "own_logits")

    @torch.no_grad()
    def _fill(self, policy: Policy, path: str, key: str) -> None:
        """Gives memory to a sharded policy, and sends it the weights from the first rank."""
        buffers = {name: buffer.clone() for name, buffer in policy.named_buffers()}
        policy.to_empty(device="cpu" if self.cpu_offload else self.root_device)
        for name, buffer in policy.named_buffers():
            buffer.data = buffers[name].to(self.root_device)
        names: dict[nn.Parameter, tuple[str, ...]] = {}
        for name, parameter in policy.model.named_parameters(remove_duplicate=False):
            names[parameter] = (*names.get(parameter, ()), name.replace(".base_layer.", "."))
        # All ranks check the files, so that either all of them raise or none.
        shapes = {tied: p.shape for p, tied in names.items() if not is_adapter(tied[0])}
        files = WeightFiles(path, key, shapes)
        for parameter, tied in names.items():
            assert isinstance(parameter, DTensor)
            if is_adapter(tied[0]):
                full = initial_adapter(tied[0], parameter.shape)
            elif self.is_global_zero:
                full = files.read(tied)
            else:
                full = torch.empty(parameter.shape)
            shares = distribute_tensor(
                full.to(self.root_device), parameter.device_mesh, parameter.placements
            )
            parameter.to_local().copy_(shares.to_local())

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        path, prefix = Path(self.broadcast(checkpoint_path)), "state_dict."
        saved = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
        module: Any = self.lightning_module
        shapes = {
            name.removeprefix(prefix): entry.size
            for name, entry in saved.items()
            if name.startswith(prefix) and isinstance(entry, TensorStorageMetadata)
        }
        check_shapes(shapes, module.policy)
        return super().load_checkpoint(path, weights_only)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None
    ) -> None:
        path = Path(self.broadcast(filepath))
        unfinished = path.with_name(f"{path.name}.unfinished")
        if self.is_global_zero:
            shutil.rmtree(unfinished, ignore_errors=True)  # a run that was killed may have left it
        self.barrier()
        with whole_or_gone(path, unfinished):
            super().save_checkpoint(checkpoint, unfinished, storage_options)
            self.barrier()
            if self.is_global_zero:
                shutil.rmtree(path, ignore_errors=True)
                os.replace(unfinished, path)
        self.barrier()


def _hours(timeout: float) -> timedelta:
    if not timeout > 0:
        raise ConfigError(f"trainer.strategy.timeout must be more than 0 hours, got {timeout}")
    return timedelta(hours=timeout)
