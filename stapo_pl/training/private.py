"""All uses of private parts of Lightning.

Lightning 2.6 has no public functions for these. If a new release of Lightning breaks something,
look here first.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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


@contextmanager
def ending_all_ranks(trainer: L.Trainer) -> Iterator[None]:
    """A context manager: if the first rank raises an error, it ends the other ranks.

    They may be waiting for the first one. Lightning ends all ranks only if another rank ends first.
    """
    try:
        yield
    except BaseException:
        launcher: Any = trainer.strategy.launcher
        if launcher is not None:
            launcher.kill(signal.SIGKILL)
            launcher.procs.clear()  # or Lightning would kill this process before it says why
        raise


def is_inside_mini_batch(trainer: L.Trainer) -> bool:
    """Returns whether more micro-batches of the present mini-batch follow."""
    return trainer.fit_loop._should_accumulate()


def forget_logged(trainer: L.Trainer) -> None:
    """Forgets what was logged. Otherwise a skipped step would log the step before it again."""
    trainer._results.reset()


def validate(trainer: L.Trainer) -> None:
    """Makes one validation in the way in which Lightning does it between batches."""
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True


def validate_after_training(trainer: L.Trainer) -> None:
    """Makes one validation whose curves are logged at the last step, not one step later."""
    trainer.fit_loop.epoch_loop._batches_that_stepped -= 1
    validate(trainer)
    trainer.fit_loop.epoch_loop._batches_that_stepped += 1


def set_checkpoint_interval(checkpoint: ModelCheckpoint, rollouts: int) -> None:
    """Makes a callback save at the end of every n-th rollout, where n is `rollouts`."""
    checkpoint._every_n_epochs = rollouts


def save_last_rollout(checkpoint: ModelCheckpoint, trainer: L.Trainer) -> None:
    """Saves the last rollout after training, unless it was saved at its end."""
    if checkpoint._last_global_step_saved != trainer.global_step:
        candidates = checkpoint._monitor_candidates(trainer)
        last = {"epoch": candidates["epoch"] - 1}
        checkpoint._save_topk_checkpoint(trainer, candidates | last)


def hide_curves_from(logger: TensorBoardLogger, step: int | None) -> None:
    """Hides points of curves that an earlier start wrote at this step or later."""
    logger._kwargs["purge_step"] = step


def add_summary(logger: TensorBoardLogger, summary) -> None:
    """Writes a summary for which TensorBoard's writer has no method."""
    logger.experiment._get_file_writer().add_summary(summary)


def take_signals(trainer: L.Trainer) -> Signals:
    """Replaces Lightning's handlers of signals by those of this project."""
    trainer._signal_connector = Signals(trainer)
    return trainer._signal_connector


class Signals(_SignalConnector):
    """The handlers of signals that replace Lightning's.

    Lightning's handlers end a run after the rollout with exit code 0, as if it were complete. They
    also start a collective call inside a handler, while another such call may be running.
    """

    def register_signal_handlers(self) -> None:
        self._original_handlers = self._get_current_signal_handlers()
        self._is_requeue_asked = False
        self._register_signal(signal.SIGTERM, terminate)
        if "SLURM_JOB_ID" in os.environ:
            self._register_signal(signal.SIGUSR1, self._ask_for_requeue)

    def requeue_is_due(self, device: torch.device) -> bool:
        """Returns whether any rank was asked to be queued again. All ranks call this together."""
        return bool(World().sum(torch.tensor(int(self._is_requeue_asked), device=device)))

    def _ask_for_requeue(self, signum, frame) -> None:
        self._is_requeue_asked = True
        # This does not use print, because the signal may come in the middle of another print.
        os.write(2, b"\nSIGUSR1: this job is queued again when the rollout is done and saved\n")
