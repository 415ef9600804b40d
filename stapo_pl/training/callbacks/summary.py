"""Prints the sizes of a run at its start, and a table of its results at its end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from stapo_pl.core.errors import TrainingError
from stapo_pl.insight.table import EVERY_ROLLOUT, EVERY_STEP, VALIDATED, ClosingTable
from stapo_pl.training.events import RolloutDone, StepDone
from stapo_pl.training.loggers import log_text
from stapo_pl.training.parts import Parts, RunCallback
from stapo_pl.training.private import validate, validate_after_training


class RunSummary(RunCallback):
    """Validates before the first and after the last step, and prints the results in a table.

    The table is kept in checkpoints, so a resumed run prints the results of the whole run.
    """

    def __init__(self) -> None:
        self._table = ClosingTable()
        self._validated_at = -1
        self._seconds_before_resume = 0.0
        self._start: float | None = None
        self._folder: str | None = None

    def connect(self, parts: Parts) -> None:
        self._data = parts.data
        parts.events.listen(StepDone, self._step_done)
        parts.events.listen(RolloutDone, self._rollout_done)

    def state_dict(self) -> dict[str, Any]:
        return {
            "seen": self._table.seen,
            "validated_at": self._validated_at,
            "seconds": self._seconds(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._table = ClosingTable(state_dict["seen"])
        self._validated_at = state_dict["validated_at"]
        self._seconds_before_resume = state_dict["seconds"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # All ranks must ask for the folder together, so it is not left to the first rank later.
        self._folder = trainer.log_dir

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start = time.perf_counter()
        text = self._data.describe()
        self._print(trainer, text)
        log_text(trainer.loggers, Path(self._folder), "data", f"```\n{text}\n```")
        if trainer.global_step == 0:
            validate(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._table.note(trainer.callback_metrics, VALIDATED)
        self._validated_at = trainer.global_step

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        is_due = self._validated_at != trainer.global_step and trainer.enable_validation
        if is_due and not trainer.requeue_is_due:  # type: ignore[attr-defined]  # RolloutTrainer
            validate_after_training(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._start is None:
            rollouts = trainer.global_step // self._data.sizes.steps_per_rollout
            self._print(trainer, f"the run is complete: it has had {rollouts} rollouts")
        lines = self._table.lines()
        skipped: Any = pl_module.skipped_steps
        idle = f" and {skipped} skipped (no token taught)" if skipped else ""
        taken = trainer.global_step - skipped
        lines.append(f"{taken} optimizer steps{idle} in {self._seconds():.0f} s")
        if self._folder is not None:
            lines.append(f"curves and checkpoints: {self._folder}")
            if any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers):
                lines.append(f"to see the curves: tensorboard --logdir {self._folder}")
        if not self._table.has_moved:
            lines.append(
                "the policy was never updated, as no step had a gradient: all responses to each "
                "prompt were rewarded alike, or masked"
            )
        self._print(trainer, "\n".join(lines))

    def on_exception(self, trainer, pl_module, exception: BaseException) -> None:
        if isinstance(exception, (KeyboardInterrupt, TrainingError)):
            saved = self._folder is not None and any(Path(self._folder).rglob("*.ckpt"))
            advice = (
                f"the same command with ckpt_path=last goes on from the last checkpoint in "
                f"{self._folder}"
                if saved
                else "there was no checkpoint yet"
            )
            self._print(trainer, f"stopped at step {trainer.global_step}; {advice}")

    def _step_done(self, event: StepDone) -> None:
        self._table.note(event.metrics, EVERY_STEP)

    def _rollout_done(self, event: RolloutDone) -> None:
        self._table.note(event.metrics, EVERY_ROLLOUT)

    def _seconds(self) -> float:
        since = 0.0 if self._start is None else time.perf_counter() - self._start
        return self._seconds_before_resume + since

    @staticmethod
    def _print(trainer: L.Trainer, text: str) -> None:
        if trainer.is_global_zero:
            print(f"\n{text}\n", flush=True)
