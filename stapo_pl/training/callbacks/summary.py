"""What a run achieved, in one table."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning as L

from stapo_pl.core.errors import TrainingError
from stapo_pl.training.events import RolloutDone, StepDone
from stapo_pl.training.loggers import log_text
from stapo_pl.training.parts import Parts, RunCallback
from stapo_pl.training.private import validate, validate_after_training

_VALIDATED = ("val/accuracy_greedy", "val/accuracy", "val/pass_at_k", "val/majority_at_k")
_EVERY_STEP = ("policy/entropy", "policy/grad_norm", "policy/silenced_fraction")
_EVERY_ROLLOUT = ("reward/mean", "throughput/samples_per_s")


class RunSummary(RunCallback):
    """Validates before the first and after the last step; prints sizes first and results last.

    What it keeps is in the checkpoint, so a resumed run prints the table of the whole run.
    """

    def __init__(self) -> None:
        # Of each metric: first value, last value, sum and count.
        self._seen: dict[str, list[float]] = {}
        self._validated_at = -1
        self._seconds_before_resume = 0.0
        self._start: float | None = None
        self._folder: str | None = None

    def connect(self, parts: Parts) -> None:
        self._data = parts.data
        parts.events.listen(StepDone, lambda event: self._note(event.metrics, _EVERY_STEP))
        parts.events.listen(RolloutDone, lambda event: self._note(event.metrics, _EVERY_ROLLOUT))

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self._seen, "validated_at": self._validated_at, "seconds": self._seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seen = state_dict["seen"]
        self._validated_at = state_dict["validated_at"]
        self._seconds_before_resume = state_dict["seconds"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._folder = trainer.log_dir  # a collective, so not to be asked for later

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start = time.perf_counter()
        text = self._data.describe()
        self._print(trainer, text)
        log_text(trainer.loggers, Path(self._folder), "data", f"```\n{text}\n```")
        if trainer.global_step == 0:
            validate(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._note(trainer.callback_metrics, _VALIDATED)
        self._validated_at = trainer.global_step

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        is_due = self._validated_at != trainer.global_step and trainer.enable_validation
        if is_due and not trainer.requeue_is_due:
            validate_after_training(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._start is None:
            rollouts = trainer.global_step // self._data.sizes.steps_per_rollout
            self._print(trainer, f"the run is complete: it has had {rollouts} rollouts")
        rows = [("", "first", "last", "mean")]
        for name in (*_VALIDATED, *_EVERY_ROLLOUT, *_EVERY_STEP):
            if name in self._seen:
                first, last, total, count = self._seen[name]
                mean = "" if name in _VALIDATED else _show(name, total / count)
                rows.append((name, _show(name, first), _show(name, last), mean))
        lines = [f"{name:<26}{first:>11}{last:>11}{mean:>11}" for name, first, last, mean in rows]
        skipped = pl_module.skipped_steps
        idle = f" and {skipped} skipped (no token taught)" if skipped else ""
        taken = trainer.global_step - skipped
        lines.append(f"{taken} optimizer steps{idle} in {self._seconds():.0f} s")
        if self._folder is not None:
            lines.append(f"curves and checkpoints: {self._folder}")
            lines.append(f"to see the curves: tensorboard --logdir {self._folder}")
        if not any(self._seen.get("policy/grad_norm", ())[:3]):
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

    def _note(self, metrics: dict[str, Any], names: tuple[str, ...]) -> None:
        for name in names:
            if name in metrics:
                value = float(metrics[name])
                first, _, total, count = self._seen.get(name, (value, value, 0.0, 0))
                self._seen[name] = [first, value, total + value, count + 1]

    def _seconds(self) -> float:
        since = 0.0 if self._start is None else time.perf_counter() - self._start
        return self._seconds_before_resume + since

    @staticmethod
    def _print(trainer: L.Trainer, text: str) -> None:
        if trainer.is_global_zero:
            print(f"\n{text}\n", flush=True)


def _show(name: str, value: float) -> str:
    if name in _VALIDATED:
        return f"{value:.1%}"
    return f"{value:.3%}" if name.endswith("_fraction") else f"{value:.4g}"
