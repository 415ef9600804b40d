"""Checkpoints that are whole or not there, and finding the newest one of a run."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io import TorchCheckpointIO

from stapo_pl.errors import ConfigError

_VERSION = re.compile(r"version_(\d+)")


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


def run_folders(root: Path) -> list[Path]:
    """The folders `version_0`, `version_1`, ... of a run's name, oldest first."""
    found = [p for p in root.glob("version_*") if _VERSION.fullmatch(p.name)]
    return sorted(found, key=lambda p: int(_VERSION.fullmatch(p.name)[1]))


def next_run_folder(root: Path) -> Path:
    folders = run_folders(root)
    number = int(_VERSION.fullmatch(folders[-1].name)[1]) + 1 if folders else 0
    return root / f"version_{number}"


def last_checkpoint(root: Path) -> Path:
    """The newest complete checkpoint of the newest run of this name.

    Raises:
        ConfigError: there is none.
    """
    folders = run_folders(root)
    checkpoints = sorted(
        (folders[-1] / "checkpoints").glob("*.ckpt") if folders else [],
        key=lambda path: path.stat().st_mtime_ns,
    )
    if not checkpoints:
        place = folders[-1] if folders else root
        raise ConfigError(
            f"ckpt_path=last: there is no checkpoint in {place}; leave ckpt_path out to start a run"
        )
    return checkpoints[-1]
