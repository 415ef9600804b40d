"""What a run achieved, in one table."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
import torch

_VALIDATED = ("val/accuracy_greedy", "val/accuracy", "val/pass_at_k")
_EVERY_STEP = ("policy/entropy", "policy/grad_norm", "policy/silenced_fraction")
_EVERY_ROLLOUT = ("reward/mean", "throughput/samples_per_s")


class RunSummary(L.Callback):
    """Validates before the first step, prints sizes at the start and results at the end.

    What it keeps is in the checkpoint, so a resumed run prints the table of the whole run.
    """

    def __init__(self) -> None:
        # Of each metric: first value, last value, sum and count.
        self._seen: dict[str, list[float]] = {}
        self._seconds_before_resume = 0.0
        self._start = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self._seen, "seconds": self._seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seen = state_dict["seen"]
        self._seconds_before_resume = state_dict["seconds"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start = time.perf_counter()
        self._print(trainer, trainer.datamodule.describe())
        if trainer.global_step == 0:
            # As Lightning's own loop does between batches.
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True
            torch.set_grad_enabled(True)

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if not trainer.fit_loop._should_accumulate():
            self._note(trainer.callback_metrics, _EVERY_STEP)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._note(trainer.datamodule.rollout_metrics, _EVERY_ROLLOUT)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._note(trainer.callback_metrics, _VALIDATED)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._seen:
            return
        seconds = self._seconds()
        rows = [("", "first", "last", "mean")]
        for name in (*_VALIDATED, *_EVERY_ROLLOUT, *_EVERY_STEP):
            if name in self._seen:
                first, last, total, count = self._seen[name]
                mean = "" if name in _VALIDATED else _show(name, total / count)
                rows.append((name, _show(name, first), _show(name, last), mean))
        lines = [f"{name:<26}{first:>11}{last:>11}{mean:>11}" for name, first, last, mean in rows]
        lines.append(f"{trainer.global_step} optimizer steps in {seconds:.0f} s")
        if trainer.log_dir is not None:
            lines.append(f"curves and checkpoints: {trainer.log_dir}")
            lines.append(f"to see the curves: tensorboard --logdir {trainer.log_dir}")
        self._print(trainer, "\n".join(lines))

    def on_exception(self, trainer, pl_module, exception: BaseException) -> None:
        if isinstance(exception, KeyboardInterrupt):
            self._print(
                trainer,
                f"interrupted at step {trainer.global_step}; the same command with "
                f"ckpt_path=last goes on from the last checkpoint in {trainer.log_dir}",
            )

    def _note(self, metrics: dict[str, Any], names: tuple[str, ...]) -> None:
        for name in names:
            if name in metrics:
                value = float(metrics[name])
                first, _, total, count = self._seen.get(name, (value, value, 0.0, 0))
                self._seen[name] = [first, value, total + value, count + 1]

    def _seconds(self) -> float:
        return self._seconds_before_resume + time.perf_counter() - self._start

    @staticmethod
    def _print(trainer: L.Trainer, text: str) -> None:
        if trainer.is_global_zero:
            print(f"\n{text}\n", flush=True)


def _show(name: str, value: float) -> str:
    if name in _VALIDATED:
        return f"{value:.1%}"
    return f"{value:.3%}" if name.endswith("_fraction") else f"{value:.4g}"
