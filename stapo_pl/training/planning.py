"""Makes the memory plan of a run from its module and its sizes."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch

from stapo_pl.core.errors import ConfigError, Terminated
from stapo_pl.memory.plan import MemoryPlan, architecture, plan_memory
from stapo_pl.policy.model import Policy
from stapo_pl.rollout.sizes import PassSize
from stapo_pl.samplers import Sampler, VLLMSampler, choose_sampler
from stapo_pl.training.module import PolicyModule
from stapo_pl.training.strategy import FSDP


def plan_run(
    module: PolicyModule,
    engine: Sampler | None,
    strategy: Any,
    compute_dtype: torch.dtype,
    largest: PassSize,
    sampled_tokens: int,
    device: torch.device,
    device_bytes: int | None,
    ranks: int,
) -> MemoryPlan:
    """Plans a run. Loads no weights and no tokenizer.

    Args:
        module: the module of the run.
        engine: the sampler. None means the default sampler of the device.
        strategy: the strategy of the run.
        compute_dtype: the type that passes compute in.
        largest: the largest micro-batch.
        sampled_tokens: the number of tokens of the longest prompt with the longest response, also
            in validation.
        device: the device of a rank. It need not be on this machine.
        device_bytes: the memory of the device. None if it is not known.
        ranks: the number of ranks of the run.

    Raises:
        ConfigError: there is no such model, or no plan could be made for it.
    """
    engine = engine or planned_sampler(device)
    config = architecture(module.path)
    sharded = isinstance(strategy, FSDP)

    def prepare(policy: Policy) -> None:
        replace(module.preparation, packing=False, compile_layers=False).trained(policy)
        policy.train(module.dropout)

    try:
        return plan_memory(
            config,
            module.optimizer,
            partial(engine.share, config, device, sampled_tokens),
            ranks=ranks,
            sharded=sharded,
            on_gpu=device.type == "cuda",
            **asdict(largest),
            dtype=torch.promote_types(compute_dtype, torch.float32),
            compute_dtype=compute_dtype,
            prepare=prepare,
            # With adapters, the reference is the policy without them, and needs no weights.
            needs_reference=module.objective.needs_reference and not module.reference_is_base,
            teacher=module.frozen.teacher_config,
            cpu_offload=sharded and strategy.cpu_offload,
            device_bytes=device_bytes,
        )
    except Terminated:
        raise
    except Exception as error:  # models and optimizers of others may read the data of tensors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"no memory plan could be made: {reason}") from error


def planned_ranks(devices: Any, nodes: int) -> int:
    """Returns the number of ranks of a run.

    Args:
        devices: the setting `trainer.devices`.
        nodes: the number of machines.

    Raises:
        ConfigError: the setting names no devices.
    """
    given = devices
    if isinstance(devices, str) and re.fullmatch(r"-?\d+", devices):
        devices = int(devices)
    elif isinstance(devices, str) and re.fullmatch(r"\d+(,\d*)+", devices):
        devices = [part for part in devices.split(",") if part]
    if devices in ("auto", -1):
        devices = max(1, torch.cuda.device_count())
    count = len(devices) if isinstance(devices, list) else devices
    if not isinstance(count, int) or count < 1:
        raise ConfigError(f"trainer.devices={given}: expected a number from 1, a list, or auto")
    return count * nodes


def planned_sampler(device: torch.device) -> Sampler:
    """Returns the sampler of a run on a device.

    If the device is a GPU and this machine has none, the plan assumes vLLM on the other machine.
    """
    elsewhere = device.type == "cuda" and not torch.cuda.is_available()
    return VLLMSampler() if elsewhere else choose_sampler(device)[0]
