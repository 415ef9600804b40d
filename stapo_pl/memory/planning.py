"""The memory plan of a run, from its settings alone."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.cli import OptimizerCallable
from transformers import AutoConfig, PreTrainedConfig

from stapo_pl.core.errors import ConfigError
from stapo_pl.memory.plan import MemoryPlan, plan_memory
from stapo_pl.objectives import Objective
from stapo_pl.policy.loading import load_config
from stapo_pl.policy.lora import LoRA
from stapo_pl.policy.model import Policy, shipped_policy
from stapo_pl.policy.precision import compute_dtype
from stapo_pl.samplers import Sampler, VLLMSampler, choose_sampler

_SHAPES = Path(__file__).parents[1] / "assets" / "shapes"


def plan_run(settings: Namespace, device: torch.device, ranks: int) -> MemoryPlan:
    """Plans the run of these settings. Loads no weights and no tokenizer.

    Args:
        settings: all of the run's, parsed but not instantiated.
        device: where ranks compute; it need not be there.

    Raises:
        ConfigError: there is no such model, or it cannot be run without its weights.
    """
    model, data, trainer = settings.model, settings.data, settings.trainer
    objective, optimizer, engine, lora = _chosen(settings)
    engine = engine or planned_sampler(device)
    config = architecture(str(shipped_policy()) if model.path is None else model.path)
    on_gpu = device.type == "cuda"
    device_bytes = _device_bytes(device, ranks // (trainer.num_nodes or 1))
    samples = data.prompts_per_mini_batch * data.group_size
    sharded = is_sharded(trainer)
    computes_in = compute_dtype(trainer.precision, on_gpu)
    max_tokens = data.max_prompt_tokens + data.max_new_tokens
    is_base = lora is not None and model.reference_path in (None, model.path)

    def prepare(policy: Policy) -> None:
        if lora is not None:
            lora.add_to(policy)
        if model.gradient_checkpointing:
            policy.checkpoint_gradients()
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
            device_bytes=device_bytes,
        )
    except Exception as error:  # models and optimizers are other people's, and may read their data
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"no memory plan could be made: {reason}") from error


def is_sharded(trainer: Namespace) -> bool:
    """Whether these trainer settings shard the policy."""
    return str(getattr(trainer.strategy, "class_path", "")).endswith(".FSDP")


def planned_ranks(trainer: Namespace) -> int:
    """How many ranks `trainer.devices` and `trainer.num_nodes` mean, whatever is here."""
    devices = trainer.devices
    if isinstance(devices, str) and devices not in ("auto", "-1"):
        devices = [part for part in devices.split(",") if part] if "," in devices else int(devices)
    if devices in ("auto", "-1", -1):
        devices = max(1, torch.cuda.device_count())
    return (len(devices) if isinstance(devices, list) else devices) * (trainer.num_nodes or 1)


def planned_sampler(device: torch.device) -> Sampler:
    """What a run on `device` takes; machines with a GPU that are not here have vLLM."""
    elsewhere = device.type == "cuda" and not torch.cuda.is_available()
    return VLLMSampler() if elsewhere else choose_sampler(device)[0]


def architecture(path: str) -> PreTrainedConfig:
    """The configuration of a model folder or hub name; of some models, also without a network.

    Raises:
        ConfigError: there is none.
    """
    shape = _SHAPES / f"{path.removeprefix('Qwen/')}.json"
    known = path.startswith("Qwen/") and shape.exists() and not Path(path).exists()
    return AutoConfig.from_pretrained(shape) if known else load_config(path)


def _chosen(settings: Namespace) -> tuple[Objective, Any, Sampler | None, LoRA | None]:
    """Objective, optimizer, sampler and adapters, made as Lightning's command line makes them."""
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


def _device_bytes(device: torch.device, ranks_here: int) -> int | None:
    """A rank's memory, if the device is there; of a CPU, its share."""
    if device.type == "cuda":
        there = torch.cuda.is_available()
        return torch.cuda.get_device_properties(device).total_memory if there else None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // ranks_here
