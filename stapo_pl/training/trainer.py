"""Lightning's trainer with the defaults of this project, which never stops inside a rollout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
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

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.seeding import check_seed
from stapo_pl.policy.precision import PRECISIONS, compute_dtype
from stapo_pl.training import defaults
from stapo_pl.training.callbacks.insight import Insight
from stapo_pl.training.datamodule import RolloutDataModule
from stapo_pl.training.defaults import CallbackName, Plugin
from stapo_pl.training.loggers import place
from stapo_pl.training.module import PolicyModule
from stapo_pl.training.private import ending_all_ranks, take_signals
from stapo_pl.training.runs import Run, named_checkpoint
from stapo_pl.training.signals import requeue
from stapo_pl.training.start import Start, check_checkpoint
from stapo_pl.training.strategy import FSDP
from stapo_pl.training.trainer_checks import check_trainer
from stapo_pl.training.wiring import connect


class RolloutTrainer(L.Trainer):
    """A trainer that finishes each rollout, and that computes the same with every strategy.

    A run cannot resume inside a rollout: the weights have changed, so sampling again would give
    another rollout. If a callback, a validation or a signal asks to stop or to save inside a
    rollout, the trainer does so at its end.

    The trainer adds the callbacks of this project, a logger and a run folder, as the command does.
    Only the command writes the settings, and compares those of a run that goes on with them.

    Args:
        run: the name of the run, and how often checkpoints are written and completions are shown.
            The run folder `logs/name/version_N` is made when `fit` begins.
        insight: what is shown and kept of tokens.
        without: the names of this project's callbacks that are left out. A sampler is always there.
        precision: the type that passes compute in. `auto` is bf16-mixed on a GPU and 32-true on a
            CPU. Weights, gradients and optimizer state are fp32 in both cases (fp64 with 64-true).
        devices: the number of processes of a node, one for each GPU; or a list of GPUs.
        logger: one logger or several. None is TensorBoard in the run folder, and false is none.
        callbacks: callbacks of your own. One of a class of this project replaces the default one.
        max_epochs: the number of rollouts of the run.
        accumulate_grad_batches: the number of micro-batches of a mini-batch on each rank.
        check_val_every_n_epoch: the number of rollouts from one validation to the next.
        gradient_clip_val: the largest norm of the gradient. None does not clip.
        log_every_n_steps: the number of optimizer steps from one point of a curve to the next.
        num_sanity_val_steps: validation batches that Lightning tries first. A run validates anyway.
        use_distributed_sampler: a setting of Lightning. Ranks share the prompts without it.
        inference_mode: whether Lightning validates under torch.inference_mode.
        enable_checkpointing: whether checkpoints are written. The default is true.
        enable_progress_bar: whether a progress bar is shown. The default is true.
        enable_model_summary: whether Lightning prints the layers of the policy.
        plugins: plugins of Lightning. The one that writes checkpoints is added if it is missing.
    """

    callbacks: list[Callback]

    def __init__(
        self,
        *,
        run: Run | None = None,
        insight: Insight | None = None,
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
        check_trainer({**locals(), **kwargs})
        if accelerator == "auto" and torch.backends.mps.is_available():
            accelerator = "cpu"  # Apple's GPUs have no float64, which is needed
        on_gpu = accelerator in ("gpu", "cuda") or isinstance(accelerator, CUDAAccelerator)
        on_gpu |= accelerator == "auto" and torch.cuda.is_available()
        computes_in = self.compute_dtype = compute_dtype(precision, on_gpu)
        if on_gpu and computes_in == torch.bfloat16:
            # Operations that stay in fp32 may use the tensor cores too.
            torch.set_float32_matmul_precision("high")
        if isinstance(strategy, FSDP):
            strategy.compute_dtype = computes_in  # it casts its shards itself
            computes_in = torch.float32
        (name,) = (name for name, dtype in PRECISIONS.items() if dtype == computes_in)
        self._asked_to_stop = False
        self.requeue_is_due = False
        """Whether a signal asked to save at the end of the rollout and to be queued again."""
        # Paths to save at the end of the rollout, with the options of each, and paths to remove
        # then.
        self._to_save: dict[str, dict[str, Any]] = {}
        self._to_remove: list[str] = []
        self.run = run or Run()
        self.folder: Path | None = None
        """The run folder. None before it is made."""
        left_out = [*without]
        left_out += ["RunProgress"] * (enable_progress_bar is False)
        left_out += ["RolloutCheckpoint"] * (enable_checkpointing is False)
        chosen = defaults.callbacks(callbacks, self.run, insight, left_out)
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
            # If a callback of this project is left out, Lightning must not add its own instead.
            enable_checkpointing=enable_checkpointing is not False
            and any(isinstance(c, ModelCheckpoint) for c in chosen),
            enable_progress_bar=enable_progress_bar is not False
            and any(isinstance(c, ProgressBar) for c in chosen),
            enable_model_summary=enable_model_summary,
            plugins=defaults.plugins(plugins),
            **kwargs,
        )
        self._signals = take_signals(self)
        self._remove_now = self.strategy.remove_checkpoint
        # A callback that saves also removes the checkpoint before. If saving is put off, removing
        # must be put off too, or there would be no checkpoint for a while.
        self.strategy.remove_checkpoint = self._remove_checkpoint  # type: ignore[method-assign]

    def fit(  # type: ignore[override]  # both parts are needed, and loaders are not taken
        self,
        model: PolicyModule,
        datamodule: RolloutDataModule,
        ckpt_path: str | Path | Start | None = None,
    ) -> None:
        """Trains the policy on rollouts of the data.

        This seeds the random numbers of the process with the seed of the data. If training does
        not begin, the folder of a new run is removed. With several ranks, an error of one ends all.

        Args:
            model: the module, which holds the policy and the objective.
            datamodule: the data module, which makes the rollouts.
            ckpt_path: a checkpoint to resume from, or `last` for the newest one of the run's name.
                None starts a new run. The command gives a `Start` that it has checked.

        Raises:
            ConfigError: `wiring.connect` refuses the settings, there is no such checkpoint, or
                this trainer has a run folder already.
        """
        if self.folder is not None:
            raise ConfigError(f"this trainer has a run folder, {self.folder}: make another one")
        if isinstance(ckpt_path, Start):
            start = ckpt_path
        else:
            root = self.run.root(model.objective, datamodule.task, datamodule.seed)
            start = Start.find(root, ckpt_path, isinstance(self.strategy, FSDP))
            start.settle()
        with self._running(model, datamodule, start):
            super().fit(model, datamodule=datamodule, ckpt_path=start.checkpoint)
        if self.requeue_is_due and self.is_global_zero:
            requeue()

    def validate(  # type: ignore[override]  # both parts are needed, and loaders are not taken
        self,
        model: PolicyModule,
        datamodule: RolloutDataModule,
        ckpt_path: str | Path | None = None,
        verbose: bool = True,
    ) -> list[Mapping[str, float]]:
        """Measures the policy on the validation problems, or on the benchmarks of the data.

        After `fit`, curves go on in the same run folder. Otherwise a new one is made.

        Args:
            model: the module, which holds the policy.
            datamodule: the data module, which holds the problems.
            ckpt_path: a checkpoint whose policy is measured instead of the present one, or `last`
                for the newest one of the run's name.
            verbose: whether a table is printed.

        Returns:
            A list with one entry: the value of each curve by its name.

        Raises:
            ConfigError: as for `fit`.
        """
        root = self.run.root(model.objective, datamodule.task, datamodule.seed)
        checkpoint = named_checkpoint(root, ckpt_path)
        if checkpoint is not None:
            check_checkpoint(checkpoint, isinstance(self.strategy, FSDP))
        start = Start(root, None, None, takes_other_data=True)
        start.settle(self.folder)
        with self._running(model, datamodule, start):
            return super().validate(model, None, checkpoint, verbose, datamodule)

    @contextmanager
    def _running(
        self, module: PolicyModule, data: RolloutDataModule, start: Start
    ) -> Iterator[None]:
        """A context manager around Lightning's work. It removes the folder of a failed start."""
        before = self.folder
        try:
            with ending_all_ranks(self):
                self.folder = start.folder
                if before is None:
                    place(self.loggers, start.folder, start.first_step)
                check_seed(data.seed)
                L.seed_everything(data.seed, verbose=False)  # new adapters are drawn from it
                data.takes_other_data = start.takes_other_data
                connect(self, module, data)
                yield
        except BaseException:
            if self.train_dataloader is None:
                start.leave_nothing()
                self.folder = before
            raise

    @property
    def log_dir(self) -> str | None:
        """The run folder, with any logger. All ranks must read this together.

        The first rank makes the folder of a new run, and the others learn its name here.
        """
        folder = self.strategy.broadcast(str(self.folder) if self.folder else None)
        self.folder = Path(folder) if folder else None
        return folder

    @property
    def inside_rollout(self) -> bool:
        """Whether the updates of a rollout have begun and are not finished."""
        progress: Any = self.fit_loop.epoch_progress.current
        return progress.ready > progress.processed

    @property
    def should_stop(self) -> bool:
        """Whether to stop training. Inside a rollout this is always false."""
        return self._asked_to_stop and not self.inside_rollout

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        # Callbacks write `trainer.should_stop = trainer.should_stop or mine`. Inside a rollout they
        # read false, so writing false there must not withdraw an earlier request.
        self._asked_to_stop = value or (self._asked_to_stop and self.inside_rollout)

    def save_checkpoint(self, filepath, weights_only=None, storage_options=None) -> None:
        """Writes a checkpoint. Inside a rollout, it is written at the end of the rollout."""
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
        """Does what was put off. The module calls this at the end of each rollout on all ranks."""
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
