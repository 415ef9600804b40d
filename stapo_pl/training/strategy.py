"""The policy on several ranks: whole on each, or in shards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from jsonargparse import Namespace
from lightning.pytorch.strategies import (
    DDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    StrategyRegistry,
)
from torch import nn
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import distribute_tensor

from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.loading import check
from stapo_pl.policy.lora import initial_adapter
from stapo_pl.policy.model import Policy, is_adapter
from stapo_pl.policy.streaming import WeightFiles, empty_policy, meta_parameters
from stapo_pl.training.checkpoint_io import whole_or_gone


class DDP(DDPStrategy):
    """Distributed data parallel: every rank keeps the whole policy.

    Args:
        timeout: hours that ranks wait for each other; for the one whose responses are longest, say.
    """

    def __init__(self, timeout: float = 6.0) -> None:
        super().__init__(timeout=timedelta(hours=timeout))


# Also what Lightning takes where nothing is said and there are several devices.
StrategyRegistry.register("ddp", DDP, "Every rank holds the whole policy.", override=True)


class FSDP(ModelParallelStrategy):
    """Fully sharded data parallel (FSDP2): each rank keeps a share of every parameter.

    Weights, gradients and optimizer state are fp32, also where the passes compute in bfloat16;
    gradients are summed over ranks in fp32. No rank ever holds the whole policy: the first one
    reads it tensor by tensor and deals out the shares. Checkpoints are folders to which each rank
    writes its share; a rename makes them complete.

    Args:
        cpu_offload: whether shares, gradients and optimizer state rest in the host's memory, where
            the optimizer steps; for models that fit no other way.
        timeout: hours that ranks wait for each other; for the one whose responses are longest, say.
    """

    compute_dtype = torch.float32
    """Of forward and backward passes; the trainer sets it."""

    def __init__(self, cpu_offload: bool = False, timeout: float = 6.0) -> None:
        # What is offloaded is reduced on the host, too: for gradient norms, say.
        backend = "cpu:gloo,cuda:nccl" if cpu_offload and torch.cuda.is_available() else None
        super().__init__(
            tensor_parallel_size=1,
            process_group_backend=backend,
            timeout=timedelta(hours=timeout),
        )
        self.cpu_offload = cpu_offload

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def model_to_device(self) -> None:
        module = self.lightning_module
        policy = module.policy
        if self.cpu_offload:
            module.policy = None  # FSDP itself fetches it layer by layer
        super().model_to_device()
        module.policy = policy

    def load(self, path: str, key: str, prepare: Callable[[Policy], None]) -> Policy:
        """The model of a folder or hub name, sharded.

        Args:
            key: the setting that names the model, for errors.
            prepare: what is done to the policy before it is sharded.

        Raises:
            ConfigError: it cannot be loaded, or see `loading.check`.
        """
        policy = empty_policy(path, key)
        with meta_parameters():
            prepare(policy)
        self._shard(policy)
        self._fill(policy, path, key)
        check(policy, f"{key}={path}", self.root_device)
        policy.reshard()  # else the root's parameters stay whole until the first backward pass
        return policy

    def _shard(self, policy: Policy) -> None:
        """Shards a policy in place, each decoder layer on its own and then what is left."""
        pin = self.root_device.type == "cuda"
        offload = CPUOffloadPolicy(pin_memory=pin) if self.cpu_offload else OffloadPolicy()
        settings = {
            "mesh": self.device_mesh["data_parallel"],
            "mp_policy": MixedPrecisionPolicy(self.compute_dtype, torch.float32),
            "offload_policy": offload,
        }
        for layer in policy.decoder_layers:
            fully_shard(layer, **settings)
        # What has no backward pass need not stay whole for it.
        frozen = not any(p.requires_grad for p in policy.parameters())
        fully_shard(policy, reshard_after_forward=frozen, **settings)
        register_fsdp_forward_method(policy, "own_logits")

    @torch.no_grad()
    def _fill(self, policy: Policy, path: str, key: str) -> None:
        """Gives memory to a sharded policy, and its weights from the first rank."""
        buffers = {name: buffer.clone() for name, buffer in policy.named_buffers()}
        policy.to_empty(device="cpu" if self.cpu_offload else self.root_device)
        for name, buffer in policy.named_buffers():
            buffer.data = buffers[name].to(self.root_device)
        names: dict[nn.Parameter, tuple[str, ...]] = {}
        for name, parameter in policy.model.named_parameters(remove_duplicate=False):
            names[parameter] = (*names.get(parameter, ()), name.replace(".base_layer.", "."))
        # All ranks look into the files, so that all refuse what one would.
        shapes = {tied: p.shape for p, tied in names.items() if not is_adapter(tied[0])}
        files = WeightFiles(path, key, shapes)
        for parameter, tied in names.items():
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

    def load_checkpoint(self, checkpoint_path: str | Path, **kwargs: Any) -> dict[str, Any]:
        path, prefix = Path(self.broadcast(checkpoint_path)), "state_dict."
        saved = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
        self.lightning_module.check_saved(
            {n.removeprefix(prefix): e.size for n, e in saved.items() if n.startswith(prefix)}
        )
        return super().load_checkpoint(path, **kwargs)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None
    ) -> None:
        path = Path(self.broadcast(filepath))
        unfinished = path.with_name(f"{path.name}.unfinished")
        if self.is_global_zero:
            shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
        self.barrier()
        with whole_or_gone(path, unfinished):
            super().save_checkpoint(checkpoint, unfinished, storage_options)
            self.barrier()
            if self.is_global_zero:
                shutil.rmtree(path, ignore_errors=True)
                os.replace(unfinished, path)
        self.barrier()


def is_sharded(strategy: Namespace | str | None) -> bool:
    """Whether this strategy, as parsed settings, shards the policy."""
    return str(getattr(strategy, "class_path", "")).endswith(".FSDP")


def check_strategy(strategy: Namespace | str | None) -> None:
    """Refuses strategies that would hand the sampler shards, others that nobody has tried, and a
    timeout that is none.

    Raises:
        ConfigError: names what there is in its place.
    """
    name = getattr(strategy, "class_path", strategy)
    known = name in ("auto", "ddp", None)
    if not known and "." in name:
        known = issubclass(resolve_name(name), (DDP, FSDP, SingleDeviceStrategy))
    if not known:
        raise ConfigError(
            f"trainer.strategy={name} is not supported: samplers are to get whole weights. "
            "trainer=fsdp shards the policy, trainer=ddp keeps all of it on every rank"
        )
    timeout = getattr(getattr(strategy, "init_args", None), "timeout", None)
    if timeout is not None and not timeout > 0:
        raise ConfigError(f"trainer.strategy.timeout must be more than 0 hours, got {timeout}")
