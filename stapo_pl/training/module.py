"""The LightningModule. It holds the policy, the reference policy and the objective."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from stapo_pl.core.batches import MicroBatch, TokenStatistics, ValidationBatch
from stapo_pl.core.errors import ConfigError, TrainingError
from stapo_pl.core.means import Means
from stapo_pl.core.types import Decoding
from stapo_pl.core.world import World
from stapo_pl.evaluation.validation import over_tasks
from stapo_pl.objectives.base import Objective
from stapo_pl.policy.loading import load_config, load_policy, load_tokenizer
from stapo_pl.policy.lora import LoRA, adapters_off, check_dropout
from stapo_pl.policy.model import Policy, shipped_policy
from stapo_pl.policy.preparation import Preparation
from stapo_pl.policy.saved import check_alpha, check_shapes, description
from stapo_pl.rollout.sizes import BatchSizes
from stapo_pl.training.curves import RolloutCurves, StepCurves
from stapo_pl.training.events import Events, RolloutDone, StepDone
from stapo_pl.training.frozen import FrozenPolicies
from stapo_pl.training.gap import SamplerGap
from stapo_pl.training.loop import Learner
from stapo_pl.training.private import forget_logged, is_inside_mini_batch
from stapo_pl.training.schedule import Schedule, ScheduleName, keep_settings
from stapo_pl.training.scoring import OldLogprobs, Scorer


class PolicyModule(L.LightningModule):
    """Updates a policy on the micro-batches of rollouts.

    Args:
        objective: the loss, and the rules that rollouts are made by.
        optimizer: a function that makes the optimizer from the parameters.
        path: the model folder or hub name of the policy to start from. None is the small policy
            that comes with the package.
        reference_path: the model folder or hub name of the reference policy. None is the policy to
            start from. It is loaded only if the objective needs it.
        teacher_path: the model folder or hub name of a teacher, if the objective learns from one.
        lora: adapters that are trained instead of the whole policy. None trains the whole policy.
        dropout: whether updates use the dropout of the model and of the adapters. Scoring and
            sampling use none, so the ratio is then not 1 before the first update.
        packing: whether the sequences of a micro-batch are laid end to end, so that no time is
            spent on padding. This needs a model with plain causal attention.
        gradient_checkpointing: whether activations are computed again in the backward pass. This
            saves memory and costs time.
        compile_layers: whether torch.compile compiles the decoder layers.
        lr_schedule: the learning rate after the warm-up: constant, cosine or linear.
        warmup_steps: the number of optimizer steps in which the learning rate rises from 0.
        max_sampler_gap_mean: the largest mean difference between log-probabilities of sampler and
            policy. None sets no bound. It is not checked if top-p or top-k cut the rollouts.
        max_sampler_gap_kl: the largest KL(sampler, policy), in the same way. Both bounds leave room
            for the different rounding of sampler and policy in bfloat16.
        on_sampler_gap: what happens above a bound: `warn`, or `raise` before an update.

    Raises:
        ConfigError: a value is out of range, or a teacher is missing or has no use.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: OptimizerCallable,
        path: str | None = None,
        reference_path: str | None = None,
        teacher_path: str | None = None,
        lora: LoRA | None = None,
        dropout: bool = False,
        packing: bool = False,
        gradient_checkpointing: bool = False,
        compile_layers: bool = False,
        lr_schedule: ScheduleName = "constant",
        warmup_steps: int = 10,
        max_sampler_gap_mean: float | None = 0.05,
        max_sampler_gap_kl: float | None = 0.01,
        on_sampler_gap: Literal["warn", "raise"] = "warn",
    ) -> None:
        super().__init__()
        if warmup_steps < 0:
            raise ConfigError(f"model.warmup_steps must not be negative, got {warmup_steps}")
        self.gap = SamplerGap(max_sampler_gap_mean, max_sampler_gap_kl, on_sampler_gap)
        check_dropout(lora, dropout)
        self.objective = objective
        self.path = str(shipped_policy()) if path is None else path
        self.reference_path = self.path if reference_path is None else reference_path
        self.lora, self.dropout = lora, dropout
        self.preparation = Preparation(lora, packing, gradient_checkpointing, compile_layers)
        self.strict_loading = lora is None  # adapters alone are in a checkpoint
        self.optimizer = optimizer
        self.lr_schedule, self.warmup_steps = lr_schedule, warmup_steps
        self.policy: Policy | None = None
        own_reference = None if self.reference_is_base else self.reference_path
        self.frozen = FrozenPolicies(objective, own_reference, teacher_path)
        self.validation_metrics = Means()

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the policy."""
        return load_tokenizer(self.path)

    @cached_property
    def model_config(self) -> PreTrainedConfig:
        """The configuration of the policy's model."""
        return load_config(self.path)

    def connect(
        self,
        sizes: BatchSizes,
        rollouts: int,
        decoding: Decoding,
        old_logprobs: OldLogprobs,
        stop_token_ids: list[int],
        events: Events,
    ) -> None:
        """Hands over what learning needs to know of the data. Each run begins with this.

        Args:
            sizes: the sizes of rollouts and mini-batches.
            rollouts: the number of rollouts of the run.
            decoding: the distribution that completions are drawn from.
            old_logprobs: where old log-probabilities come from: `recompute` or `sampler`.
            stop_token_ids: the tokens that end responses besides those that the model names.
            events: the object that passes events to callbacks.
        """
        self.steps = rollouts * sizes.steps_per_rollout
        self.decoding, self.events, self.stop_token_ids = decoding, events, stop_token_ids
        self.skipped_steps = 0
        scorer = Scorer(self.objective, self, old_logprobs, sizes.epochs_per_rollout)
        curves = StepCurves(self.objective, self.gap)
        self.learner = Learner(self.objective, scorer, curves, events, decoding.max_new_tokens)
        self.curves = RolloutCurves(events)

    def configure_model(self) -> None:
        if self.policy is None:
            policy = self._load(self.path, "model.path", self.preparation.trained)
            # Without dropout the policy stays in evaluation mode: then scoring and updates agree.
            self.policy = policy.train(self.dropout)

    def _load(self, path: str, key: str, prepare: Callable[[Policy], None]) -> Policy:
        """Loads a policy. With FSDP, the strategy loads it, and every rank gets its share."""
        if self.device_mesh is None:
            return load_policy(path, key, prepare)
        return self.trainer.strategy.load(path, key, prepare)  # type: ignore[attr-defined]

    @property
    def reference_is_base(self) -> bool:
        """Whether the reference policy is the policy with its adapters switched off."""
        return self.lora is not None and self.reference_path == self.path

    def on_fit_start(self) -> None:
        if self.dropout:
            rank_zero_warn(
                "model.dropout=true: updates drop activations, scoring and sampling do not. Ratios "
                "are not 1 before the first update, clipping and corrections act on this noise"
            )
        load = partial(self._load, prepare=self.preparation.frozen)
        device = self.device if self.device_mesh is None else None
        self.frozen.load(load, device, self.model_config, self.tokenizer)

    def configure_optimizers(self):
        try:
            optimizer = self.optimizer([p for p in self.policy.parameters() if p.requires_grad])
        except (TypeError, ValueError) as error:
            raise ConfigError(f"model.optimizer: {error}") from error
        keep_settings(optimizer)
        schedule = Schedule(optimizer, self.lr_schedule, self.warmup_steps, self.steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def current(self, micro: MicroBatch) -> TokenStatistics:
        """Returns statistics of the policy, with gradient."""
        return self.policy(micro.on(self.device), self.objective.has_gradient(micro.tokens))

    def statistics(self, micro: MicroBatch) -> TokenStatistics:
        """Returns statistics of the policy, without gradient and dropout."""
        return self._forward(self.policy, micro)

    def reference_statistics(self, micro: MicroBatch) -> TokenStatistics:
        """Returns statistics of the reference policy, without gradient."""
        if self.reference_is_base:
            with adapters_off(self.policy):
                return self._forward(self.policy, micro)
        return self._forward(self.frozen.reference, micro)

    def teacher_statistics(self, micro: MicroBatch) -> TokenStatistics:
        """Returns statistics of the teacher, without gradient."""
        return self._forward(self.frozen.teacher, micro)

    @torch.no_grad()
    def _forward(self, policy: Policy, micro: MicroBatch) -> TokenStatistics:
        was_training = policy.training
        policy.eval()
        with self.trainer.precision_plugin.forward_context():
            statistics = policy(micro.on(self.device))
        policy.train(was_training)
        return statistics

    def on_train_batch_start(self, batch: MicroBatch, batch_idx: int) -> None:
        self.learner.begin(batch)
        self._mini_batch = batch.mini_batch

    def training_step(self, batch: MicroBatch, batch_idx: int) -> Tensor:
        age = self.global_step - batch.mini_batch.rollout.version
        assert age == batch.mini_batch.step, (
            f"stale micro-batch: step {age} of its rollout, made for {batch.mini_batch.step}"
        )
        # Lightning divides by both numbers, but the weights already average over the mini-batch.
        return self.learner.loss(batch) * self.trainer.accumulate_grad_batches * World().size

    def on_train_batch_end(self, outputs, batch: MicroBatch, batch_idx: int) -> None:
        """Frees the gradients after an optimizer step, so that the sampler can use the memory."""
        self.curves.batch_ends()
        if not is_inside_mini_batch(self.trainer):
            self.zero_grad()

    def on_train_epoch_start(self) -> None:
        self._skipped_before = self.skipped_steps
        self.curves.rollout_begins()

    def on_train_epoch_end(self) -> None:
        metrics = self.curves.of_rollout() | self.gap.curves
        self.log_dict(metrics, sync_dist=True)
        self.events.tell(RolloutDone(metrics, self.skipped_steps - self._skipped_before))
        self._mini_batch = None  # it leads to the whole rollout, whose memory the sampler may need
        self.trainer.finish_rollout()  # type: ignore[attr-defined]

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None) -> None:
        """Skips the step of an empty mini-batch, so that weight decay does not move the policy."""
        if self._mini_batch.is_empty:
            optimizer_closure()
            self.learner.curves.means.reset()
            forget_logged(self.trainer)
            self.skipped_steps += 1
            self.log("policy/skipped_steps", float(self.skipped_steps))
        else:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Logs loss and gradient norm before clipping. TrainingError if one is not finite."""
        if self._mini_batch.step == 0:
            self.gap.check(self.global_step, self.decoding.is_cut)
        values = self.learner.curves.means.compute()
        gradients = [p.grad for p in self.policy.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        values["grad_norm"] = norm.full_tensor() if isinstance(norm, DTensor) else norm
        values["lr"] = torch.tensor(optimizer.param_groups[0]["lr"])
        for name in ("loss", "grad_norm"):
            if not torch.isfinite(values[name]):
                raise TrainingError(
                    f"step {self.global_step}: policy/{name} is {values[name].item()}; "
                    "the policy was not updated, and the last checkpoint is intact"
                )
        self._grad_norm = values["grad_norm"]
        metrics = {f"policy/{name}": value for name, value in values.items()}
        self.log_dict(metrics)
        self.events.tell(StepDone(self.global_step, metrics))

    def configure_gradient_clipping(
        self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None
    ):
        if gradient_clip_val and gradient_clip_algorithm in (None, "norm"):
            torch.nn.utils.clip_grads_with_norm_(
                self.policy.parameters(), gradient_clip_val, self._grad_norm
            )
        else:
            super().configure_gradient_clipping(
                optimizer, gradient_clip_val, gradient_clip_algorithm
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["skipped_steps"] = self.skipped_steps
        checkpoint["policy"] = description(self.path, self.lora, self.stop_token_ids)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "state_dict" in checkpoint:  # else the strategy has loaded it, and checked
            shapes = {name: tensor.shape for name, tensor in checkpoint["state_dict"].items()}
            check_shapes(shapes, self.policy)
        check_alpha(checkpoint["policy"]["lora"], self.lora)
        self.skipped_steps = checkpoint["skipped_steps"]

    def validation_step(self, batch: ValidationBatch, batch_idx: int) -> None:
        self.validation_metrics.update(
            {f"{batch.name}/{metric}": values_P for metric, values_P in batch.values.items()}
        )

    def on_validation_epoch_end(self) -> None:
        """Logs each metric of each benchmark, and the mean of each metric over the benchmarks."""
        values = over_tasks(self.validation_metrics.compute())
        # They are equal on all ranks already. `sync_dist` keeps Lightning from warning.
        self.log_dict({f"val/{name}": value for name, value in values.items()}, sync_dist=True)
