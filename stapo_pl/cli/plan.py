"""Prints the plan of a run, for `stapo fit --plan`: its memory, and how much it computes."""

from __future__ import annotations

import torch
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.strategies import Strategy

from stapo_pl.cli.savings import describe_savings
from stapo_pl.memory.plan import GIB, MemoryPlan, architecture, device_memory
from stapo_pl.policy.precision import compute_dtype
from stapo_pl.rollout.sizes import BatchSizes
from stapo_pl.samplers import Sampler
from stapo_pl.training.module import PolicyModule
from stapo_pl.training.planning import plan_run, planned_ranks
from stapo_pl.training.trainer_checks import check_trainer
from stapo_pl.training.workload import Estimate, estimate_work, passes_of_a_step


def print_plan(config: Namespace) -> None:
    """Prints the memory plan of a run, what takes less if it does not fit, and what it computes.

    Only what the plan looks at is made, so it needs neither the data nor the sampler of the run,
    and its GPUs need not be on this machine.

    Args:
        config: all settings of the run, parsed but not instantiated.

    Raises:
        ConfigError: a setting is refused, or no plan can be made for the model.
    """
    plan = _plan_memory(config)
    print(plan.describe())
    if not plan.fits:
        print(describe_savings(config, _plan_memory))
    made, data = _make(config), config.data
    work = estimate_work(
        architecture(made.model.path),
        _sizes(data),
        config.trainer.max_epochs,
        data.max_prompt_tokens,
        data.max_new_tokens,
        passes_of_a_step(
            made.model.objective,
            _sizes(data),
            data.old_logprobs == "recompute",
            config.model.gradient_checkpointing,
        ),
        made.estimate,
    )
    print(f"\n{work.describe(_ranks(config))}")


def _plan_memory(config: Namespace) -> MemoryPlan:
    made, data, trainer = _make(config), config.data, config.trainer
    check_trainer({**vars(trainer), "strategy": made.strategy})
    # The plan is for GPUs by default, because people make it before they have one.
    device = torch.device("cpu" if trainer.accelerator == "cpu" else "cuda")
    ranks, gib = _ranks(config), made.estimate.gpu_gib
    there = device_memory(device, ranks // (trainer.num_nodes or 1))
    return plan_run(
        made.model,
        made.engine,
        made.strategy,
        compute_dtype(trainer.precision, device.type == "cuda"),
        _sizes(data).largest_micro_batch(
            ranks,
            trainer.accumulate_grad_batches,
            data.max_prompt_tokens + data.max_new_tokens,
            data.max_tokens_per_micro_batch,
        ),
        data.max_prompt_tokens,
        data.max_new_tokens,
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


def _sizes(data: Namespace) -> BatchSizes:
    names = ("prompts_per_rollout", "group_size", "prompts_per_mini_batch", "epochs_per_rollout")
    return BatchSizes(*(data[name] for name in names))


def _ranks(config: Namespace) -> int:
    return planned_ranks(config.trainer.devices, config.trainer.num_nodes or 1)
