"""Writes all settings of a run into its run folder, and gives them to the loggers."""

from __future__ import annotations

import json

import lightning as L
import yaml
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from stapo_pl.cli.naming import flat
from stapo_pl.training.loggers import log_text
from stapo_pl.training.private import add_summary

# The curves that TensorBoard shows beside the hyperparameters.
_FIGURES = ("val/accuracy_greedy", "val/accuracy", "reward/mean")


class _SaveConfig(SaveConfigCallback):
    """Writes config.yaml, and logs all settings as hyperparameters and as a text.

    config.yaml is written only when training begins. If a resumed run is refused before, the old
    file stays, and still says how the checkpoints were made.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if trainer.is_global_zero:
            self._log_settings(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().setup(trainer, pl_module, "fit")

    def _log_settings(self, trainer: L.Trainer) -> None:
        text = self.parser.dump(self.config, skip_none=False)
        values = flat(yaml.safe_load(text))
        plain = {
            key: value if isinstance(value, int | float | str) else json.dumps(value, default=str)
            for key, value in values.items()
        }
        log_text(trainer.loggers, None, "config", f"```yaml\n{text}\n```")
        for logger in trainer.loggers:
            logger.log_hyperparams(plain)
            if isinstance(logger, TensorBoardLogger):
                # Lightning shows hyperparameters only beside a curve that has a value already. This
                # names the curves before they have one.
                for summary in hparams(plain, dict.fromkeys(_FIGURES, 0.0))[:2]:
                    add_summary(logger, summary)


# The class has a private name, so that no word of the command line can choose or replace it.
CONFIG_CALLBACK = _SaveConfig
