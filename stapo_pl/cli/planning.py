"""Makes the memory plan of a run from its settings, without loading the model."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.cli import OptimizerCallable

from stapo_pl.core.errors import ConfigError
from stapo_pl.memory.plan import MemoryPlan, architecture, device_memory, plan_memory
from stapo_pl.objectives import Objective
from stapo_pl.policy.lora import LoRA
from stapo_pl.policy.model import Policy, shipped_policy
from stapo_pl.policy.precision import compute_dtype
from stapo_pl.policy.preparation import Preparation
from stapo_pl.samplers import Sampler, VLLMSampler, choose_sampler
from stapo_pl.training.strategy import is_sharded


def plan_run(settings: Namespace, device: torch.device, ranks: int) -> MemoryPlan:
    """Plans the run that has these settings. Loads no weights and no tokenizer.

    Args:
        settings: all settings of the run, parsed but not instantiated.
        device: the device of a rank; it need not be on this machine.
        ranks: the number of ranks of the run.

    Raises:
        ConfigError: there is no such model, or it cannot be run without its weights.
    """
    model, data, trainer = settings.model, settings.data, settings.trainer
    objective, optimizer, engine, lora = _chosen(settings)
    engine = engine or planned_sampler(device)
    config = architecture(str(shipped_policy()) if model.path is None else model.path)
    on_gpu = device.type == "cuda"
    samples = data.prompts_per_mini_batch * data.group_size
    sharded = is_sharded(trainer.strategy)
    computes_in = compute_dtype(trainer.precision, on_gpu)
    max_tokens = data.max_prompt_tokens + data.max_new_tokens
    # With adapters, the reference is the policy without them, and needs no weights of its own.
    is_base = lora is not None and model.reference_path in (None, model.path)
    preparation = Preparation(lora, gradient_checkpointing=model.gradient_checkpointing)

    def prepare(policy: Policy) -> None:
        preparation.trained(policy)
        policy.train(model.dropout)

    try:
        return plan_memory(
            config,
            optimizer,
            partial(engine.share, config, device, max_tokens),
            ranks=ranks,
            sharded=sharded,
            on_gpu=on_gpu,
            sequences=max(1, -(-samples // (ranks * trainer.accumulate_grad_batches))),
            prompt_tokens=data.max_prompt_tokens,
            response_tokens=data.max_new_tokens,
            dtype=torch.promote_types(computes_in, torch.float32),
            compute_dtype=computes_in,
            prepare=prepare,
            needs_reference=objective.needs_reference and not is_base,
            cpu_offload=sharded and trainer.strategy.init_args.cpu_offload,
            device_bytes=device_memory(device, ranks // (trainer.num_nodes or 1)),
        )
    except Exception as error:  # models and optimizers of others may read the data of tensors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"no memory plan could be made: {reason}") from error


def planned_ranks(trainer: Namespace) -> int:
    """Returns the number of ranks that `trainer.devices` and `trainer.num_nodes` ask for."""
    devices = trainer.devices
    if isinstance(devices, str) and devices not in ("auto", "-1"):
        devices = [part for part in devices.split(",") if part] if "," in devices else int(devices)
    if devices in ("auto", "-1", -1):
        devices = max(1, torch.cuda.device_count())
    return (len(devices) if isinstance(devices, list) else devices) * (trainer.num_nodes or 1)


def planned_sampler(device: torch.device) -> Sampler:
    """Returns the sampler of a run on a device.

    If the device is a GPU and this machine has none, the plan assumes vLLM on the other machine.
    """
    elsewhere = device.type == "cuda" and not torch.cuda.is_available()
    return VLLMSampler() if elsewhere else choose_sampler(device)[0]


def _chosen(settings: Namespace) -> tuple[Objective, Any, Sampler | None, LoRA | None]:
    """Makes objective, optimizer, sampler and adapters in the same way as a real run does."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--objective", type=Objective)
    parser.add_argument("--optimizer", type=OptimizerCallable)
    parser.add_argument("--engine", type=Sampler | None)
    parser.add_argument("--lora", type=LoRA | None)
    made = parser.instantiate_classes(
        Namespace(
            objective=settings.model.objective,
            optimizer=settings.model.optimizer,
            engine=settings.sampler.engine,
            lora=settings.model.lora,
        )
    )
    return made.objective, made.optimizer, made.engine, made.lora
