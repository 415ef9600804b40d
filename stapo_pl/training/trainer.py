"""Lightning's trainer, for rollouts that are one whole and precision that is one setting."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch import Callback
from lightning.pytorch.accelerators import Accelerator, CUDAAccelerator
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities import rank_zero_info

from stapo_pl.policy.precision import PRECISIONS, compute_dtype
from stapo_pl.training import defaults
from stapo_pl.training.checkpoint_io import step_reached
from stapo_pl.training.datamodule import RolloutDataModule
from stapo_pl.training.defaults import CallbackName, Plugin
from stapo_pl.training.loggers import place
from stapo_pl.training.module import PolicyModule
from stapo_pl.training.private import take_signals
from stapo_pl.training.runs import Run, find_start, settle_folder
from stapo_pl.training.strategy import FSDP
from stapo_pl.training.wiring import connect


class RolloutTrainer(L.Trainer):
    """A trainer for which a rollout is one whole, and whose passes compute alike by any strategy.

    A rollout that is cut short cannot be gone on with: made again from weights that have moved, it
    would be another one. So a request to stop or to save that comes inside a rollout (from a
    callback that counts steps or seconds, a validation, a signal) is put off to the rollout's end.

    It has the callbacks of this project, a logger and a folder of its own, so that a run from
    Python is what the command makes of it.

    Args:
        run: its name, the folder of all runs, and how often it saves and shows completions. The
            folder of this run, `logs/name/version_N`, is made when `fit` begins.
        without: names of this project's callbacks to leave out. There is always a sampler.
        precision: `auto` is bf16-mixed on a GPU and 32-true on a CPU. Weights, gradients and
            optimizer state are fp32 either way (fp64 with 64-true).
        devices: processes of a node, one for each GPU; or the numbers of the GPUs.
        logger: None is TensorBoard in the run's folder, and false is none.
        callbacks: of the user's. One of a class of this project takes the place of the default.
        max_epochs: rollouts of the run.
        accumulate_grad_batches: micro-batches of a mini-batch, on each rank.
        check_val_every_n_epoch: rollouts between two validations.
        gradient_clip_val: largest norm of the gradient; None does not clip.
        log_every_n_steps: optimizer steps between two points of a curve.
        num_sanity_val_steps: validation batches before training; the run validates then anyway.
        use_distributed_sampler: of Lightning, and of no use here: ranks share prompts themselves.
        inference_mode: whether Lightning validates under torch.inference_mode.
        enable_checkpointing: false makes no checkpoints.
        enable_progress_bar: false shows no progress bar.
        enable_model_summary: whether Lightning prints the layers of the policy.
        plugins: of the user's; checkpoints are written whole in any case.
    """

    callbacks: list[Callback]

    def __init__(
        self,
        *,
        run: Run | None = None,
        without: list[CallbackName] = [],  # noqa: B006
        accelerator: str | Accelerator = "auto",
        strategy: Strategy | str = "auto",
        devices: list[int] | str | int = 1,
        precision: str | int | None = "auto",
        logger: Logger | Iterable[Logger] | bool | None = None,
        callbacks: list[Callback] | Callback | None = None,
        max_epochs: int | None = 75,
        accumulate_grad_batches: int = 4,
        check_val_every_n_epoch: int | None = 25,
        gradient_clip_val: int | float | None = 1.0,
        log_every_n_steps: int | None = 1,
        num_sanity_val_steps: int | None = 0,
        use_distributed_sampler: bool = False,
        inference_mode: bool = False,
        enable_checkpointing: bool | None = None,
        enable_progress_bar: bool | None = None,
        enable_model_summary: bool | None = False,
        plugins: Plugin | list[Plugin] | None = None,
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
        self.run = run or Run()
        self.folder: Path | None = None
        """The run's folder, once it is made."""
        left_out = [*without]
        left_out += ["RunProgress"] * (enable_progress_bar is False)
        left_out += ["RolloutCheckpoint"] * (enable_checkpointing is False)
        chosen = defaults.callbacks(callbacks, self.run, left_out)
        super().__init__(
            accelerator=accelerator,
            strategy=strategy,
            devices=devices,
            precision=name,
            logger=defaults.logger(logger),
            callbacks=chosen,
            max_epochs=max_epochs,
            accumulate_grad_batches=accumulate_grad_batches,
            check_val_every_n_epoch=check_val_every_n_epoch,
            gradient_clip_val=gradient_clip_val,
            log_every_n_steps=log_every_n_steps,
            num_sanity_val_steps=num_sanity_val_steps,
            use_distributed_sampler=use_distributed_sampler,
            inference_mode=inference_mode,
            # Where this project's are left out, Lightning's own are not to come in their place.
            enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in chosen),
            enable_progress_bar=any(isinstance(c, ProgressBar) for c in chosen),
            enable_model_summary=enable_model_summary,
            plugins=defaults.plugins(plugins),
            **kwargs,
        )
        self._signals = take_signals(self)
        self._remove_now = self.strategy.remove_checkpoint
        # Whoever saves also removes what came before, which must stay until the new one is there.
        self.strategy.remove_checkpoint = self._remove_checkpoint  # type: ignore[method-assign]

    def fit(  # type: ignore[override]  # both parts are needed, and loaders are not taken
        self, model: PolicyModule, datamodule: RolloutDataModule, ckpt_path=None
    ) -> None:
        """Trains the policy on rollouts of the data.

        Args:
            ckpt_path: a checkpoint to go on from, or `last` for the newest of the run's name.

        Raises:
            ConfigError: the parts do not go together, see `wiring.connect`; or there is no such
                checkpoint.
        """
        connect(self, model, datamodule)
        if self.folder is None:
            root = Path(self.run.logs) / (
                self.run.name or default_name(model, datamodule, self.run)
            )
            ckpt_path = find_start(root, ckpt_path)
            folder, _ = settle_folder(root, ckpt_path)
            self.log_into(folder, None if ckpt_path is None else step_reached(ckpt_path))
        for callback in self.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                # Otherwise Lightning would ask the first logger for a folder.
                callback.dirpath = str(self.folder.absolute() / "checkpoints")
        super().fit(model, datamodule=datamodule, ckpt_path=ckpt_path)

    def log_into(self, folder: Path, first_step: int | None) -> None:
        """Says which folder is the run's.

        Args:
            first_step: of a run that goes on, the step that it makes first.
        """
        self.folder = folder
        place(self.loggers, folder, first_step)

    @property
    def log_dir(self) -> str | None:
        """The run's folder, whatever its loggers are. Collective over all ranks."""
        return self.strategy.broadcast(str(self.folder) if self.folder else None)

    @property
    def inside_rollout(self) -> bool:
        """Whether a rollout has begun and is not trained on to its end."""
        progress: Any = self.fit_loop.epoch_progress.current
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
        self.requeue_is_due = self._signals.requeue_is_due(self.strategy.root_device)
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


def default_name(module: PolicyModule, data: RolloutDataModule, run: Run) -> str:
    """`stapo-arithmetic-seed0`: the name of a run that was given none."""
    objective = run.objective or type(module.objective).__name__
    task = run.task or type(data.task).__name__
    return "-".join(filter(None, (run.experiment, objective, task, f"seed{data.seed}"))).lower()
