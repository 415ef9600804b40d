"""Decides when checkpoints are written. A checkpoint is a file to resume a run from."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from stapo_pl.core.world import World
from stapo_pl.training.private import save_last_rollout, set_checkpoint_interval
from stapo_pl.training.shared_folder import check_shared


class RolloutCheckpoint(ModelCheckpoint):
    """Writes a checkpoint at the end of every n-th rollout, and of the last one.

    Args:
        every_n_rollouts: the number of rollouts from one checkpoint to the next.
        keep: how many of the newest checkpoints are kept. -1 keeps all.
    """

    def __init__(self, every_n_rollouts: int = 5, keep: int = 1) -> None:
        super().__init__(
            filename="rollout-{epoch:05d}",
            auto_insert_metric_name=False,
            every_n_epochs=every_n_rollouts,
            save_on_train_epoch_end=True,
            save_top_k=keep,
            monitor="step" if keep > 1 else None,
            mode="max" if keep > 1 else "min",
        )
        self.every_n_rollouts = every_n_rollouts

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        # Lightning never deletes the checkpoint that a run resumed from, so each resume would leave
        # one more file.
        trainer.ckpt_path = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if trainer.num_nodes > 1:
            check_shared(Path(self.dirpath), World(), trainer.strategy.root_device)

    @property
    def state_key(self) -> str:
        return type(self).__qualname__  # Lightning's has the interval in it, which may change

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        is_last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        set_checkpoint_interval(self, 1 if is_last else self.every_n_rollouts)
        super().on_train_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        save_last_rollout(self, trainer)  # it may have been stopped at the last moment
