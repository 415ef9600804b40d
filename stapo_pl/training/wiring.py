"""Connects module, data module and callbacks, before a fit or a validation.

They know only what is handed over here, and nothing else of each other. No file but this one and
`trainer.py` knows all of them.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info

from stapo_pl.core.errors import ConfigError
from stapo_pl.memory.plan import device_memory
from stapo_pl.objectives import Correction
from stapo_pl.training.callbacks.sampler import SamplerCallback
from stapo_pl.training.datamodule import RolloutDataModule
from stapo_pl.training.events import Events
from stapo_pl.training.module import PolicyModule
from stapo_pl.training.parts import Parts, RunCallback
from stapo_pl.training.planning import plan_run

if TYPE_CHECKING:
    from stapo_pl.training.trainer import RolloutTrainer


def connect(trainer: RolloutTrainer, module: PolicyModule, data: RolloutDataModule) -> None:
    """Gives module, data module and callbacks what they need of each other.

    Raises:
        ConfigError: `check_ratio` refuses the settings, or there is not one sampler callback.
    """
    check_ratio(module.objective.correction, data)
    if (max_tokens := data.token_budget) is not None:
        longest = data.max_prompt_tokens + data.decoding.max_new_tokens
        most = data.sizes.most_micro_batches(trainer.world_size, longest, max_tokens)
        trainer.accumulate_grad_batches = most
        # None stands for a micro-batch that is not needed.
        warnings.filterwarnings("ignore", message="train_dataloader yielded None")
    events = Events()
    samplers = [c for c in trainer.callbacks if isinstance(c, SamplerCallback)]
    if len(samplers) != 1:
        raise ConfigError(f"callbacks: a run has one SamplerCallback, got {len(samplers)}")
    data.connect(
        samplers[0].generate,
        module.tokenizer,
        module.model_config,
        module.path,
        module.objective.rollout,
        module.objective.can_prune,
        module.objective.sees_all_tokens,
        events,
    )
    module.connect(
        data.sizes,
        trainer.max_epochs,
        data.decoding,
        data.old_logprobs,
        data.stop_token_ids,
        events,
    )
    for callback in trainer.callbacks:
        if isinstance(callback, RunCallback):
            callback.connect(Parts(module, data, events))
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
            # Otherwise Lightning would ask the first logger for a folder.
            callback.dirpath = str(trainer.folder.absolute() / "checkpoints")
    hand_out_memory(trainer, module, data)


def hand_out_memory(trainer: RolloutTrainer, module: PolicyModule, data: RolloutDataModule) -> None:
    """Prints the memory plan of a run on GPUs, and tells the sampler how much it may use.

    On a CPU there is no plan, because no sampler reserves memory there. If no plan can be made for
    a model, the run goes on without one.
    """
    device = trainer.strategy.root_device
    if device.type != "cuda":
        return
    (sampler,) = (c for c in trainer.callbacks if isinstance(c, SamplerCallback))
    try:
        plan = plan_run(
            module,
            sampler.engine,
            trainer.strategy,
            trainer.compute_dtype,
            data.sizes.largest_micro_batch(
                trainer.world_size,
                trainer.accumulate_grad_batches,
                data.max_prompt_tokens,
                data.decoding.max_new_tokens,
                data.token_budget,
            ),
            data.max_prompt_tokens + data.longest_response,
            device,
            device_memory(device, trainer.world_size // trainer.num_nodes),
            trainer.world_size,
        )
    except ConfigError as error:
        rank_zero_info(error)
        return
    sampler.room = plan.room
    advice = "" if plan.fits else "; --plan shows what takes less"
    rank_zero_info(f"\n{plan.describe()}{advice}\n")


def check_ratio(correction: Correction | None, data: RolloutDataModule) -> None:
    """Checks that the ratio in the loss fits the distribution that completions are drawn from.

    The ratio divides probabilities of the policy. If top-p or top-k cut the distribution, the
    sampler's probabilities are not the policy's, and only some corrections make up for that.

    Args:
        correction: the correction of the objective, if it has one.
        data: the data module, whose settings are checked.

    Raises:
        ConfigError: the settings do not fit. The message says what to set.
    """
    decoding = data.decoding
    if correction is not None and data.old_logprobs == "sampler":
        raise ConfigError(
            "objective.correction weighs by the ratio of the policy's log-probabilities to the "
            "sampler's, which is 1 with data.old_logprobs=sampler: set one or the other"
        )
    if decoding.is_cut and (correction is None or not correction.takes_cuts):
        raise ConfigError(
            f"data.top_p={decoding.top_p} and data.top_k={decoding.top_k} cut the distribution "
            "that rollouts are drawn from, so that they are not the policy's: set data.top_p=1 "
            "data.top_k=0, or objective.correction=TokenTIS data.old_logprobs=recompute, which "
            "weighs each token by the ratio of the two"
        )
