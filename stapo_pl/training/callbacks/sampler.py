"""Starts, updates and stops the sampler, so that it never samples from old weights."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

import lightning as L

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Completion, Decoding, Ended, Request
from stapo_pl.samplers import Room, Sampler, choose_sampler
from stapo_pl.training.events import RolloutCollected
from stapo_pl.training.parts import Parts, RunCallback


class SamplerCallback(RunCallback):
    """Builds the sampler, gives it the weights before it samples, and lets it sleep afterwards.

    A sampler that sleeps frees its memory for the updates. Every call of `generate` first compares
    the step of the sampler's weights with the present step, and copies the weights if they differ.
    The order of Lightning's hooks therefore cannot matter.

    Args:
        engine: the sampler. None chooses vLLM if it is installed and there is a GPU, and
            transformers otherwise.

    Raises:
        ConfigError: the package that the sampler needs is not installed.
    """

    def __init__(self, engine: Sampler | None = None) -> None:
        if engine is not None and (missing := engine.missing()):
            raise ConfigError(missing)
        self.engine = engine
        self.room = Room()
        """The memory that the sampler may use. The code that plans the run sets it."""
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
            data.max_prompt_tokens + data.longest_response,
            self.room,
        )

    def on_load_checkpoint(self, trainer, pl_module, checkpoint) -> None:
        self._version = None  # the weights change although the global step may stay the same

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._sync_seconds = 0.0  # a validation before this rollout must not count

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.log("time/sync_s", self._rollout_sync_seconds, sync_dist=True)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.sleep()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._close(pl_module)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Closes the sampler, because Lightning does not call `teardown` after an exception."""
        # With other ranks, closing could wait for them for ever. The memory is then freed when the
        # process ends.
        if trainer.world_size == 1 and self.engine is not None:
            with suppress(Exception):  # a second error must not hide the first one
                self._close(pl_module)

    def _close(self, pl_module: L.LightningModule) -> None:
        pl_module.zero_grad()  # a sleeping sampler needs its memory back before it can close
        self.engine.close()

    def generate(
        self,
        requests: Sequence[Request],
        decoding: Decoding,
        ended: Ended,
    ) -> list[Completion]:
        """Returns one completion for each request, from the present policy."""
        if self._version != self._module.global_step:
            start = time.perf_counter()
            self.engine.load_weights(self._module.policy.named_weights())
            self._version = self._module.global_step
            self._sync_seconds += time.perf_counter() - start
        return self.engine.generate(requests, decoding, ended)

    def _rollout_collected(self, event: RolloutCollected) -> None:
        self._rollout_sync_seconds = self._sync_seconds  # a validation may add to the other
        self.sleep()

    def sleep(self) -> None:
        """Frees the sampler's memory for the updates that follow."""
        if self.engine.sleep():
            self._version = None
