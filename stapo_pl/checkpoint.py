"""Checkpoints that are whole or not there."""

from __future__ import annotations

import os
from typing import Any

from lightning.fabric.plugins.io import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the checkpoint's place, then renames.

    Lightning writes to the system's temporary folder and moves, which on another file system is a
    copy that a kill can cut short.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path, storage_options: Any = None
    ) -> None:
        unfinished = f"{path}.unfinished"
        super().save_checkpoint(checkpoint, unfinished, storage_options)
        with open(unfinished, "rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
