"""One progress bar for the whole run."""

from __future__ import annotations

import sys
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from stapo_pl.core.progress import progress_bar
from stapo_pl.training.events import Phase, RolloutCollected, RolloutDone, StepDone
from stapo_pl.training.parts import Parts, RunCallback


class RunProgress(RunCallback, ProgressBar):
    """Counts optimizer steps from the start of the run to its end, and names the phase.

    Lightning's own bar starts again with every epoch, which is a rollout here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_enabled = True
        self._bar: tqdm | None = None
        self._metrics: dict[str, float] = {}

    def connect(self, parts: Parts) -> None:
        self._steps_per_rollout = parts.data.sizes.steps_per_rollout
        parts.events.listen(Phase, self._show_phase)
        kinds: tuple[type[Any], ...] = (RolloutCollected, StepDone, RolloutDone)
        for kind in kinds:
            parts.events.listen(kind, lambda event: self._metrics.update(event.metrics))

    def disable(self) -> None:
        self.is_enabled = False

    def enable(self) -> None:
        self.is_enabled = True

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if not trainer.is_global_zero:
            self.disable()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.is_enabled:
            self._bar = progress_bar(
                total=trainer.max_epochs * self._steps_per_rollout,
                initial=trainer.global_step,
                unit="step",
                desc="start",
            )

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if self._bar is not None and trainer.global_step > self._bar.n:
            shown = {
                label: f"{float(self._metrics[key]):.3g}"
                for label, key in (
                    ("reward", "reward/mean"),
                    ("entropy", "policy/entropy"),
                    ("samples/s", "throughput/samples_per_s"),
                )
                if key in self._metrics
            }
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update(trainer.global_step - self._bar.n)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._bar is not None:
            self._bar.set_description("done", refresh=False)
        self._close()

    def on_exception(self, trainer, pl_module, exception: BaseException) -> None:
        self._close()

    def print(self, *args: Any, **kwargs: Any) -> None:
        if self._bar is not None:
            self._bar.write(" ".join(map(str, args)))
        elif self.is_enabled:
            print(*args, **kwargs)

    def _show_phase(self, phase: Phase) -> None:
        if self._bar is not None:
            text = f"{phase.name:<10} {phase.done}/{phase.total}"
            self._bar.set_description(text, refresh=False)
            if sys.stderr.isatty():
                self._bar.refresh()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
