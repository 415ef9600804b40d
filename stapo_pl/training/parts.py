"""What a callback of this project is given when a run starts."""

from __future__ import annotations

from dataclasses import dataclass

import lightning as L

from stapo_pl.training.datamodule import RolloutDataModule
from stapo_pl.training.events import Events
from stapo_pl.training.module import PolicyModule


@dataclass
class Parts:
    """The module, the data module and the events of a run."""

    module: PolicyModule
    data: RolloutDataModule
    events: Events


class RunCallback(L.Callback):
    """A callback that is given the parts of its run.

    Such a callback listens for events, so it does not depend on the order of the trainer's list.
    """

    def connect(self, parts: Parts) -> None:
        """Keeps the parts that it needs, and starts to listen for events.

        The trainer calls this before each fit or validation, and before `setup`.
        """
