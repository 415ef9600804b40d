"""The life of the sampler, and the rule that it never samples from stale weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import lightning as L

from stapo_pl.samplers.base import Sampler
from stapo_pl.types import Completion, Decoding, Request


class SamplerCallback(L.Callback):
    """Builds the sampler, and brings it in step with the policy before it is used.

    The sync is pulled: every generation, for training or validation, first compares the sampler's
    version with the global step. So the order of Lightning's hooks cannot matter.

    Args:
        engine: what samples.
    """

    def __init__(self, engine: Sampler) -> None:
        self.engine = engine
        self._version: int | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._trainer, self._module, self._version = trainer, pl_module, None
        self.engine.build(pl_module.model_config, pl_module.tokenizer, trainer.strategy.root_device)
        trainer.datamodule.generate = self.generate

    def on_load_checkpoint(self, trainer, pl_module, checkpoint) -> None:
        self._version = None  # the weights change while the global step may not

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.engine.close()

    def generate(
        self,
        requests: Sequence[Request],
        decoding: Decoding,
        progress: Callable[[int, int], None],
    ) -> list[Completion]:
        """One completion a request, from the policy as it is now."""
        if self._version != self._trainer.global_step:
            self.engine.load_weights(self._module.policy.named_weights())
            self._version = self._trainer.global_step
        return self.engine.generate(requests, decoding, progress)
