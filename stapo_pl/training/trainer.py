"""Lightning's trainer, for rollouts that are one whole and precision that is one setting."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.accelerators import Accelerator, CUDAAccelerator
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities import rank_zero_info

from stapo_pl.policy.precision import PRECISIONS, compute_dtype
from stapo_pl.training.datamodule import RolloutDataModule
from stapo_pl.training.module import PolicyModule
from stapo_pl.training.signals import Signals
from stapo_pl.training.strategy import FSDP
from stapo_pl.training.wiring import connect


class RolloutTrainer(L.Trainer):
    """A trainer for which a rollout is one whole, and whose passes compute alike by any strategy.

    A rollout that is cut short cannot be gone on with: made again from weights that have moved, it
    would be another one. So a request to stop or to save that comes inside a rollout (from a
    callback that counts steps or seconds, a validation, a signal) is put off to the rollout's end.

    Args:
        precision: `auto` is bf16-mixed on a GPU and 32-true on a CPU. Weights, gradients and
            optimizer state are fp32 either way (fp64 with 64-true).
    """

    def __init__(
        self,
        *,
        accelerator: str | Accelerator = "auto",
        strategy: Strategy | str = "auto",
        precision: str | int | None = "auto",
        **kwargs: Any,
    ) -> None:
        on_gpu = accelerator in ("gpu", "cuda") or isinstance(accelerator, CUDAAccelerator)
        on_gpu |= accelerator == "auto" and torch.cuda.is_available()
        computes_in = compute_dtype(precision, on_gpu)
        if on_gpu and computes_in == torch.bfloat16:
            # What is left in fp32 takes the tensor cores, too.
            torch.set_float32_matmul_precision("high")
        if isinstance(strategy, FSDP):
            strategy.compute_dtype = computes_in  # it casts its shards itself
            computes_in = torch.float32
        (name,) = (name for name, dtype in PRECISIONS.items() if dtype == computes_in)
        self._asked_to_stop = False
        self.requeue_is_due = False
        """Whether a signal asked to save at a rollout's end and to be queued again."""
        # Of each path that is to be saved at the rollout's end, how; and those to be removed then.
        self._to_save: dict[str, dict[str, Any]] = {}
        self._to_remove: list[str] = []
        super().__init__(accelerator=accelerator, strategy=strategy, precision=name, **kwargs)
        self._signal_connector = Signals(self)
        self._remove_now = self.strategy.remove_checkpoint
        # Whoever saves also removes what came before, which must stay until the new one is there.
        self.strategy.remove_checkpoint = self._remove_checkpoint

    def fit(self, model: PolicyModule, datamodule: RolloutDataModule, ckpt_path=None) -> None:
        """Trains the policy on rollouts of the data.

        Args:
            ckpt_path: a checkpoint to go on from.

        Raises:
            ConfigError: the parts do not go together; see `wiring.connect`.
        """
        connect(self, model, datamodule)
        super().fit(model, datamodule=datamodule, ckpt_path=ckpt_path)

    @property
    def inside_rollout(self) -> bool:
        """Whether a rollout has begun and is not trained on to its end."""
        progress = self.fit_loop.epoch_progress.current
        return progress.ready > progress.processed

    @property
    def should_stop(self) -> bool:
        """Whether to stop training; false inside a rollout, whoever asked for it there."""
        return self._asked_to_stop and not self.inside_rollout

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        # `trainer.should_stop = trainer.should_stop or mine` must not take back what was asked for.
        self._asked_to_stop = value or (self._asked_to_stop and self.inside_rollout)

    def save_checkpoint(self, filepath, weights_only=None, storage_options=None) -> None:
        """Saves the run; inside a rollout, at its end."""
        options = {"weights_only": weights_only, "storage_options": storage_options}
        if self.inside_rollout:
            if not self._to_save:
                rank_zero_info(
                    f"{filepath} was asked for inside a rollout and will be made at its end"
                )
            self._to_save[str(filepath)] = options
        else:
            super().save_checkpoint(filepath, **options)

    def finish_rollout(self) -> None:
        """Does what was put off; the module calls it at the end of each rollout, on all ranks."""
        self.requeue_is_due = self._signal_connector.requeue_is_due(self.strategy.root_device)
        if self.requeue_is_due:
            self.should_stop = True
        saves, self._to_save = self._to_save, {}
        removals, self._to_remove = self._to_remove, []
        for path, options in saves.items():
            super().save_checkpoint(path, **options)
        for path in removals:
            self._remove_now(path)

    def _remove_checkpoint(self, filepath) -> None:
        if not self.inside_rollout:
            self._remove_now(filepath)
        elif self._to_save.pop(str(filepath), None) is None:
            self._to_remove.append(str(filepath))
