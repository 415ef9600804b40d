"""Logs some responses of a rollout as text, so that people can read what the policy writes."""

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
    """Logs a few responses with their scores at the end of a rollout.

    Args:
        completions: how many responses are shown, each from another group. 0 shows none.
        every_n_rollouts: the number of rollouts from one such log to the next.

    Raises:
        ConfigError: `every_n_rollouts` is below 1.
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
        # All ranks must ask for the folder together, so it is not left to the first rank later.
        self._folder = Path(trainer.log_dir)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero and trainer.current_epoch % self.every_n_rollouts == 0:
            shown = [group[0] for group in self._rollout.sampled[: self.completions]]
            text = "\n\n---\n\n".join(as_markdown(t, self._tokenizer) for t in shown)
            if text:
                step = trainer.global_step - 1
                log_text(trainer.loggers, self._folder, "completions", text, step)
