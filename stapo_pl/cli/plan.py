"""Prints the plan of a run, for `stapo fit --plan`: its memory, and how much it computes."""

from __future__ import annotations

import torch
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.strategies import Strategy

from stapo_pl.cli.savings import describe_savings
from stapo_pl.memory.plan import GIB, MemoryPlan, architecture, device_memory
from stapo_pl.policy.precision import compute_dtype
from stapo_pl.rollout.limits import check_room
from stapo_pl.rollout.sizes import BatchSizes
from stapo_pl.samplers import Sampler
from stapo_pl.training.module import PolicyModule
from stapo_pl.training.planning import plan_run, planned_ranks
from stapo_pl.training.trainer_checks import check_trainer
from stapo_pl.training.workload import Estimate, Workload, estimate_work, passes_of_a_step


def print_plan(config: Namespace) -> None:
    """Prints the memory plan of a run, what takes less if it does not fit, and what it computes.

    Only what the plan looks at is made, so it needs neither the data nor the sampler of the run,
    and its GPUs need not be on this machine.

    Args:
        config: all settings of the run, parsed but not instantiated.

    Raises:
        ConfigError: a setting is refused, or no plan can be made for the model.
    """
    work = _plan_work(config)
    plan = _plan_memory(config)
    print(plan.describe())
    if not plan.fits:
        print(describe_savings(config, plan, _plan_memory))
    print(f"\n{work.describe(None if _device(config).type == 'cpu' else _ranks(config))}")


def _plan_work(config: Namespace) -> Workload:
    made, data, model = _make(config), config.data, config.model
    objective, model_config = made.model.objective, architecture(made.model.path)
    positions = model_config.get_text_config().max_position_embeddings
    check_room(data.max_prompt_tokens, _longest_response(data), positions)
    passes = passes_of_a_step(
        objective,
        _sizes(data),
        data.old_logprobs,
        dropout=model.dropout,
        checkpoints=model.gradient_checkpointing,
        adapters=model.lora is not None,
    )
    again = objective.rollout.dynamic_sampling
    return estimate_work(
        model_config,
        _sizes(data),
        config.trainer.max_epochs,
        data.max_prompt_tokens,
        data.max_new_tokens,
        passes,
        made.estimate,
        1 if again is None else again.max_rounds,
    )


def _plan_memory(config: Namespace) -> MemoryPlan:
    made, data, trainer = _make(config), config.data, config.trainer
    check_trainer({**vars(trainer), "strategy": made.strategy})
    device, ranks, gib = _device(config), _ranks(config), made.estimate.gpu_gib
    sizes, max_tokens = _sizes(data), data.max_tokens_per_micro_batch
    if max_tokens is not None:
        longest = data.max_prompt_tokens + data.max_new_tokens
        sizes.most_micro_batches(ranks, longest, max_tokens)  # refuses what the run refuses
    micro_batches = trainer.accumulate_grad_batches
    sizes.check_ranks(ranks, micro_batches if max_tokens is None else None)
    there = device_memory(device, ranks // (trainer.num_nodes or 1))
    return plan_run(
        made.model,
        made.engine,
        made.strategy,
        compute_dtype(trainer.precision, device.type == "cuda"),
        sizes.largest_micro_batch(
            ranks, micro_batches, data.max_prompt_tokens, data.max_new_tokens, max_tokens
        ),
        data.max_prompt_tokens + _longest_response(data),
        device,
        int(gib * GIB) if gib is not None and device.type == "cuda" else there,
        ranks,
    )


def _make(config: Namespace) -> Namespace:
    """Makes the parts of a run that its plan looks at."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(PolicyModule, "model")
    parser.add_argument("--engine", type=Sampler | None)
    parser.add_argument("--strategy", type=Strategy | str)
    parser.add_argument("--estimate", type=Estimate)
    return parser.instantiate_classes(
        Namespace(
            model=config.model,
            engine=config.sampler.engine,
            strategy=config.trainer.strategy,
            estimate=config.estimate,
        )
    )


def _device(config: Namespace) -> torch.device:
    # The plan is for GPUs by default, because people make it before they have one.
    return torch.device("cpu" if config.trainer.accelerator == "cpu" else "cuda")


def _sizes(data: Namespace) -> BatchSizes:
    names = ("prompts_per_rollout", "group_size", "prompts_per_mini_batch", "epochs_per_rollout")
    return BatchSizes(*(data[name] for name in names))


def _longest_response(data: Namespace) -> int:
    return max(data.max_new_tokens, data.validation.max_new_tokens or 0)


def _ranks(config: Namespace) -> int:
    return planned_ranks(config.trainer.devices, config.trainer.num_nodes or 1)
