"""What callbacks are handed of a run."""

from __future__ import annotations

from dataclasses import dataclass

import lightning as L

from stapo_pl.training.datamodule import RolloutDataModule
from stapo_pl.training.events import Events
from stapo_pl.training.module import PolicyModule


@dataclass
class Parts:
    """The parts of a run."""

    module: PolicyModule
    data: RolloutDataModule
    events: Events


class RunCallback(L.Callback):
    """A callback that is handed the parts of its run.

    Callbacks that listen for events do not depend on their order in the trainer's list.
    """

    def connect(self, parts: Parts) -> None:
        """Keeps what it needs, and listens for events. Called before each fit, ahead of `setup`."""
