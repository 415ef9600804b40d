"""The life of the sampler, and the rule that it never samples from stale weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import lightning as L

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Completion, Decoding, Request
from stapo_pl.samplers import Room, Sampler, choose_sampler
from stapo_pl.training.events import RolloutCollected
from stapo_pl.training.parts import Parts, RunCallback


class SamplerCallback(RunCallback):
    """Builds the sampler, wakes it and brings it in step before it is used, and lets it sleep.

    The sync is pulled: every generation, for training or validation, first compares the sampler's
    version with the global step. So the order of Lightning's hooks cannot matter.

    Args:
        engine: what samples; None is vLLM where it is installed and there is a GPU, else
            transformers.

    Raises:
        ConfigError: the engine is not installed.
    """

    def __init__(self, engine: Sampler | None = None) -> None:
        if engine is not None and (missing := engine.missing()):
            raise ConfigError(missing)
        self.engine = engine
        self.room = Room()
        """What the device has for the engine; to be set by whoever plans the run."""
        self._version: int | None = None
        self._sync_seconds = self._rollout_sync_seconds = 0.0

    def connect(self, parts: Parts) -> None:
        self._module, self._data = parts.module, parts.data
        parts.events.listen(RolloutCollected, self._rollout_collected)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._version = None
        data, device = self._data, trainer.strategy.root_device
        if self.engine is None:
            self.engine, choice = choose_sampler(device)
            if trainer.is_global_zero:
                print(f"sampler     {choice}")
        self.engine.build(
            self._module.model_config,
            data.end_tokens.ids,
            device,
            data.max_prompt_tokens + data.decoding.max_new_tokens,
            self.room,
        )

    def on_load_checkpoint(self, trainer, pl_module, checkpoint) -> None:
        self._version = None  # the weights change while the global step may not

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._sync_seconds = 0.0  # of the rollout alone

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.log("time/sync_s", self._rollout_sync_seconds, sync_dist=True)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.sleep()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._close(pl_module)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Lightning tears no callback down after an exception."""
        # Where there are other ranks, closing might wait for them; the process' end frees as much.
        if trainer.world_size == 1 and self.engine is not None:
            with suppress(Exception):  # a broken engine must not hide what broke it
                self._close(pl_module)

    def _close(self, pl_module: L.LightningModule) -> None:
        pl_module.zero_grad()  # an engine that sleeps needs its memory back to be freed
        self.engine.close()

    def generate(
        self,
        requests: Sequence[Request],
        decoding: Decoding,
        progress: Callable[[int, int], None],
    ) -> list[Completion]:
        """One completion a request, from the policy as it is now."""
        if self._version != self._module.global_step:
            start = time.perf_counter()
            self.engine.load_weights(self._module.policy.named_weights())
            self._version = self._module.global_step
            self._sync_seconds += time.perf_counter() - start
        return self.engine.generate(requests, decoding, progress)

    def _rollout_collected(self, event: RolloutCollected) -> None:
        self._rollout_sync_seconds = self._sync_seconds  # a validation may follow
        self.sleep()

    def sleep(self) -> None:
        """Frees the sampler's memory for the updates that follow."""
        if self.engine.sleep():
            self._version = None
