"""Some completions of a rollout, as text."""

from __future__ import annotations

from pathlib import Path

import lightning as L

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Rollout
from stapo_pl.insight.completions import as_markdown
from stapo_pl.training.events import RolloutCollected
from stapo_pl.training.loggers import log_text
from stapo_pl.training.parts import Parts, RunCallback


class RolloutLog(RunCallback):
    """Logs a few completions of a rollout when it has been trained on.

    Args:
        completions: how many completions to show, from one group each; 0 shows none.
        every_n_rollouts: how often to show them.

    Raises:
        ConfigError: every_n_rollouts below 1.
    """

    def __init__(self, completions: int = 4, every_n_rollouts: int = 10) -> None:
        if every_n_rollouts < 1:
            raise ConfigError(f"every_n_rollouts must be at least 1, got {every_n_rollouts}")
        self.completions, self.every_n_rollouts = completions, every_n_rollouts
        self._rollout: Rollout | None = None

    def connect(self, parts: Parts) -> None:
        self._tokenizer = parts.module.tokenizer
        parts.events.listen(RolloutCollected, self._remember)

    def _remember(self, event: RolloutCollected) -> None:
        self._rollout = event.rollout

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._folder = Path(trainer.log_dir)  # a collective, so not to be asked for later

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero and trainer.current_epoch % self.every_n_rollouts == 0:
            shown = [group[0] for group in self._rollout.sampled[: self.completions]]
            text = "\n\n---\n\n".join(as_markdown(t, self._tokenizer) for t in shown)
            if text:
                step = trainer.global_step - 1
                log_text(trainer.loggers, self._folder, "completions", text, step)
