"""The resolved config goes into the run's folder, and to the loggers."""

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

# Curves that TensorBoard shows beside hyperparameters.
_FIGURES = ("val/accuracy_greedy", "val/accuracy", "reward/mean")


class _SaveConfig(SaveConfigCallback):
    """Puts the resolved config into each logger's hyperparameters too, and into a text.

    config.yaml is written when training begins: a resumed run that is refused leaves the run's own
    in its place, by which checkpoints are exported.
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
                # Lightning shows hyperparameters only beside a figure that it is given at once.
                for summary in hparams(plain, dict.fromkeys(_FIGURES, 0.0))[:2]:
                    add_summary(logger, summary)


# Of a name that no word can choose: it is always there.
CONFIG_CALLBACK = _SaveConfig
