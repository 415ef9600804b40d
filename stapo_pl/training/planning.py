"""Makes the memory plan of a run from its module and its data module."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from stapo_pl.core.errors import ConfigError
from stapo_pl.memory.plan import MemoryPlan, architecture, device_memory, plan_memory
from stapo_pl.policy.model import Policy
from stapo_pl.samplers import Sampler, VLLMSampler, choose_sampler
from stapo_pl.training.datamodule import RolloutDataModule
from stapo_pl.training.module import PolicyModule
from stapo_pl.training.strategy import FSDP


def plan_run(
    module: PolicyModule,
    data: RolloutDataModule,
    engine: Sampler | None,
    strategy: Any,
    compute_dtype: torch.dtype,
    micro_batches: int,
    device: torch.device,
    ranks: int,
    nodes: int,
) -> MemoryPlan:
    """Plans a run. Loads no weights and no tokenizer.

    Args:
        module: the module of the run.
        data: the data module of the run.
        engine: the sampler. None is the one that such a device has by default.
        strategy: the strategy of the run.
        compute_dtype: the type that passes compute in.
        micro_batches: the number of micro-batches that a mini-batch is cut into on each rank.
        device: the device of a rank. It need not be on this machine.
        ranks: the number of ranks of the run.
        nodes: the number of machines of the run.

    Raises:
        ConfigError: there is no such model, or it cannot be run without its weights.
    """
    engine = engine or planned_sampler(device)
    config = architecture(module.path)
    samples = data.sizes.prompts_per_mini_batch * data.sizes.group_size
    response_tokens = data.decoding.max_new_tokens
    sharded = isinstance(strategy, FSDP)

    def prepare(policy: Policy) -> None:
        replace(module.preparation, packing=False, compile_layers=False).trained(policy)
        policy.train(module.dropout)

    try:
        return plan_memory(
            config,
            module.optimizer,
            partial(engine.share, config, device, data.max_prompt_tokens + response_tokens),
            ranks=ranks,
            sharded=sharded,
            on_gpu=device.type == "cuda",
            sequences=max(1, -(-samples // (ranks * micro_batches))),
            prompt_tokens=data.max_prompt_tokens,
            response_tokens=response_tokens,
            dtype=torch.promote_types(compute_dtype, torch.float32),
            compute_dtype=compute_dtype,
            prepare=prepare,
            # With adapters, the reference is the policy without them, and needs no weights.
            needs_reference=module.objective.needs_reference and not module.reference_is_base,
            cpu_offload=sharded and strategy.cpu_offload,
            device_bytes=device_memory(device, ranks // nodes),
        )
    except Exception as error:  # models and optimizers of others may read the data of tensors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"no memory plan could be made: {reason}") from error


def planned_ranks(devices: Any, nodes: int) -> int:
    """Returns the number of ranks of a run.

    Args:
        devices: the setting `trainer.devices`.
        nodes: the number of machines.
    """
    if isinstance(devices, str) and devices not in ("auto", "-1"):
        devices = [part for part in devices.split(",") if part] if "," in devices else int(devices)
    if devices in ("auto", "-1", -1):
        devices = max(1, torch.cuda.device_count())
    return (len(devices) if isinstance(devices, list) else devices) * nodes


def planned_sampler(device: torch.device) -> Sampler:
    """Returns the sampler of a run on a device.

    If the device is a GPU and this machine has none, the plan assumes vLLM on the other machine.
    """
    elsewhere = device.type == "cuda" and not torch.cuda.is_available()
    return VLLMSampler() if elsewhere else choose_sampler(device)[0]
