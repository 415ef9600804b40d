"""All that this project touches of Lightning's private parts.

Lightning 2.6 has no public way to these; a new release of it is checked here first.
"""

from __future__ import annotations

import os
import signal

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.utilities import rank_zero_only

from stapo_pl.core.world import World
from stapo_pl.training.signals import terminate


def is_first_process() -> bool:
    """Whether this process is the run's first, also before there are ranks."""
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]  # Lightning sets it at import


def is_inside_mini_batch(trainer: L.Trainer) -> bool:
    """Whether the optimizer step that the present micro-batch belongs to is still to come."""
    return trainer.fit_loop._should_accumulate()


def forget_logged(trainer: L.Trainer) -> None:
    """Drops what was logged, so that a skipped step does not log the step before it again."""
    trainer._results.reset()


def validate(trainer: L.Trainer) -> None:
    """Makes one validation, as Lightning's own training loop does it between batches."""
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True


def validate_after_training(trainer: L.Trainer) -> None:
    """Makes one validation whose curves stand at the last step, not at a step after it."""
    trainer.fit_loop.epoch_loop._batches_that_stepped -= 1
    validate(trainer)
    trainer.fit_loop.epoch_loop._batches_that_stepped += 1


def set_checkpoint_interval(checkpoint: ModelCheckpoint, rollouts: int) -> None:
    """Saves at the ends of those rollouts whose number, from 1 on, is a multiple of this."""
    checkpoint._every_n_epochs = rollouts


def save_last_rollout(checkpoint: ModelCheckpoint, trainer: L.Trainer) -> None:
    """Saves after training, as at the end of the last rollout, unless that was saved already."""
    if checkpoint._last_global_step_saved != trainer.global_step:
        candidates = checkpoint._monitor_candidates(trainer)
        last = {"epoch": candidates["epoch"] - 1}
        checkpoint._save_topk_checkpoint(trainer, candidates | last)


def hide_curves_from(logger: TensorBoardLogger, step: int | None) -> None:
    """Curves that an earlier start wrote at this step or later are not shown."""
    logger._kwargs["purge_step"] = step


def add_summary(logger: TensorBoardLogger, summary) -> None:
    """Writes a summary that TensorBoard's writer has no method for."""
    logger.experiment._get_file_writer().add_summary(summary)


def take_signals(trainer: L.Trainer) -> Signals:
    """Puts this project's handlers of signals in the place of Lightning's."""
    trainer._signal_connector = Signals(trainer)
    return trainer._signal_connector


class Signals(_SignalConnector):
    """In the place of Lightning's handlers, which end a run after its rollout, with exit code 0.

    Theirs also start collectives from inside a handler, where another collective may be under way.
    """

    def register_signal_handlers(self) -> None:
        self._original_handlers = self._get_current_signal_handlers()
        self._is_requeue_asked = False
        self._register_signal(signal.SIGTERM, terminate)
        if "SLURM_JOB_ID" in os.environ:
            self._register_signal(signal.SIGUSR1, self._ask_for_requeue)

    def requeue_is_due(self, device: torch.device) -> bool:
        """Whether any rank was asked to be queued again. Collective over all ranks."""
        return bool(World().sum(torch.tensor(int(self._is_requeue_asked), device=device)))

    def _ask_for_requeue(self, signum, frame) -> None:
        self._is_requeue_asked = True
        # Not printed: the signal may have come in the middle of a print.
        os.write(2, b"\nSIGUSR1: this job is queued again when the rollout is done and saved\n")
