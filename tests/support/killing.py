"""Callbacks for the resume tests: one writes down every loss, the other ends the run."""

from __future__ import annotations

import os
import signal

import lightning as L

from stapo_pl.core.errors import TrainingError
from stapo_pl.training import checkpoint_io as checkpoint
from stapo_pl.training import strategy


class Record(L.Callback):
    """Appends `epoch batch loss` to a file, the loss to the last bit."""

    def __init__(self, file: str) -> None:
        self.file = file

    def setup(self, trainer, pl_module, stage) -> None:
        if not trainer.is_global_zero:
            self.file += f".{trainer.global_rank}"

    def write(self, *words) -> None:
        with open(self.file, "a") as file:
            print(*words, file=file)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.write(trainer.current_epoch, batch_idx, outputs["loss"].item().hex())

    def on_validation_end(self, trainer, pl_module) -> None:
        values = (
            float(trainer.callback_metrics[f"val/{k}"]).hex() for k in ("accuracy", "pass_at_k")
        )
        self.write("validation", trainer.global_step, *values)


class Kill(L.Callback):
    """SIGKILL in the third rollout, at a chosen moment; or the end of vLLM's engine."""

    def __init__(self, moment: str) -> None:
        self.moment = moment

    def on_fit_start(self, trainer, pl_module) -> None:
        def now() -> bool:
            return trainer.current_epoch == 2 and not trainer.validating

        if self.moment == "during a rollout":
            engine = next(c.engine for c in trainer.callbacks if hasattr(c, "engine"))
            generate = engine.generate

            def killed(requests, *args):
                completions = generate(requests[: len(requests) // 2 if now() else None], *args)
                if now():
                    die()
                return completions

            engine.generate = killed
        if self.moment == "while a checkpoint is written":
            save = checkpoint.TorchCheckpointIO.save_checkpoint

            def cut_short(io, content, path, storage_options=None):
                save(io, content, path, storage_options)
                if now():
                    os.truncate(path, os.path.getsize(path) // 2)
                    die()

            checkpoint.TorchCheckpointIO.save_checkpoint = cut_short
            save_shards = strategy.ModelParallelStrategy.save_checkpoint

            def shard_cut_short(self, content, path, storage_options=None):
                save_shards(self, content, path, storage_options)
                if now() and trainer.is_global_zero:
                    (shard, *_) = sorted(path.glob("*.distcp"))
                    os.truncate(shard, os.path.getsize(shard) // 2)
                    die()
                self.barrier()

            strategy.ModelParallelStrategy.save_checkpoint = shard_cut_short
        if self.moment == "right after a checkpoint":
            replace = checkpoint.os.replace

            def replaced(source, target):
                replace(source, target)
                if now() and str(target).endswith(".ckpt"):  # records are put in place so, too
                    die()

            checkpoint.os.replace = replaced

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if trainer.current_epoch == 2 and self.moment == f"rank {trainer.global_rank} raises":
            raise TrainingError(f"rank {trainer.global_rank} gives up")
        if trainer.current_epoch == 2 and self.moment == f"rank {trainer.global_rank} dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.moment == "the engine dies" and trainer.current_epoch == 2:
            engine = next(c.engine for c in trainer.callbacks if hasattr(c, "engine"))
            engine.engine.llm.llm_engine.engine_core.shutdown()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.current_epoch != 2:
            return
        if self.moment in ("between micro-batches", "after step 1 of K") and batch_idx == 3:
            die()
        if self.moment in ("SIGUSR1", "SIGTERM") and batch_idx == 1:
            os.kill(os.getpid(), getattr(signal, self.moment))


def die() -> None:
    """Kills all ranks: they are a process group of their own."""
    os.killpg(os.getpgrp(), signal.SIGKILL)
