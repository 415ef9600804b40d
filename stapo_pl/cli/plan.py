"""Prints the memory plan of a run, for `stapo fit --plan`."""

from __future__ import annotations

import torch
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.strategies import Strategy

from stapo_pl.memory.plan import architecture
from stapo_pl.policy.precision import compute_dtype
from stapo_pl.rollout.sizes import BatchSizes
from stapo_pl.samplers import Sampler
from stapo_pl.training.module import PolicyModule
from stapo_pl.training.planning import plan_run, planned_ranks
from stapo_pl.training.trainer_checks import check_trainer
from stapo_pl.training.workload import Estimate, estimate_work, passes_of_a_step


def print_plan(config: Namespace) -> None:
    """Prints the memory plan of a run, and how much it computes.

    Only what the plan looks at is made, so it needs neither the data nor the sampler of the run,
    and its GPUs need not be on this machine.

    Args:
        config: all settings of the run, parsed but not instantiated.

    Raises:
        ConfigError: a setting is refused, or no plan can be made for the model.
    """
    data, trainer = config.data, config.trainer
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(PolicyModule, "model")
    parser.add_argument("--engine", type=Sampler | None)
    parser.add_argument("--strategy", type=Strategy | str)
    parser.add_argument("--estimate", type=Estimate)
    made = parser.instantiate_classes(
        Namespace(
            model=config.model,
            engine=config.sampler.engine,
            strategy=trainer.strategy,
            estimate=config.estimate,
        )
    )
    check_trainer({**vars(trainer), "strategy": made.strategy})
    # The plan is for GPUs by default, because people make it before they have one.
    device = torch.device("cpu" if trainer.accelerator == "cpu" else "cuda")
    nodes = trainer.num_nodes or 1
    ranks = planned_ranks(trainer.devices, nodes)
    names = ("prompts_per_rollout", "group_size", "prompts_per_mini_batch", "epochs_per_rollout")
    sizes = BatchSizes(*(data[name] for name in names))
    plan = plan_run(
        made.model,
        made.engine,
        made.strategy,
        compute_dtype(trainer.precision, device.type == "cuda"),
        sizes.largest_micro_batch(
            ranks,
            trainer.accumulate_grad_batches,
            data.max_prompt_tokens + data.max_new_tokens,
            data.max_tokens_per_micro_batch,
        ),
        data.max_prompt_tokens,
        data.max_new_tokens,
        device,
        ranks,
        nodes,
    )
    print(plan.describe())
    work = estimate_work(
        architecture(made.model.path),
        sizes,
        trainer.max_epochs,
        data.max_prompt_tokens,
        data.max_new_tokens,
        passes_of_a_step(
            made.model.objective,
            sizes,
            data.old_logprobs == "recompute",
            config.model.gradient_checkpointing,
        ),
        made.estimate,
    )
    print(f"\n{work.describe(ranks)}")
