"""Writes checkpoints so that one that exists is always complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io import TorchCheckpointIO

from stapo_pl.core.errors import ConfigError, TrainingError
from stapo_pl.policy.saved import read


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint in its folder under another name, and renames it at the end.

    Lightning writes to the system's temporary folder and moves the file. If that is another file
    system, moving means copying, and a kill leaves half a checkpoint.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path, storage_options: Any = None
    ) -> None:
        unfinished = f"{path}.unfinished"
        with whole_or_gone(path, unfinished):
            super().save_checkpoint(checkpoint, unfinished, storage_options)
            with open(unfinished, "rb") as file:
                os.fsync(file.fileno())
            os.replace(unfinished, path)


@contextmanager
def whole_or_gone(path: str | Path, unfinished: str | Path) -> Iterator[None]:
    """A context manager: removes the unfinished file or folder if writing fails or is interrupted.

    Args:
        path: the checkpoint.
        unfinished: the name under which it is written.

    Raises:
        TrainingError: it could not be written, for example because the disk is full.
    """
    try:
        yield
    except BaseException as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        Path(unfinished).unlink(missing_ok=True)
        # torch raises a RuntimeError if the disk is full.
        if isinstance(error, (OSError, RuntimeError)) and not isinstance(error, TrainingError):
            raise TrainingError(
                f"the checkpoint {path} could not be written ({_reason(error, Path(path))}); the "
                "one before it is whole"
            ) from error
        raise


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    free = shutil.disk_usage(path.parent).free if path.parent.exists() else 0
    return f"{free / 2**20:.0f} MiB are free on its disk; {' '.join(str(error).split())[:200]}"


def step_reached(path: Path) -> int:
    """Returns the number of optimizer steps that a checkpoint has had. Reads no weights.

    Raises:
        ConfigError: `saved.read` refuses it; or it was written inside a rollout, and a run can
            only resume between rollouts.
    """
    return _read_whole(path)["global_step"]


def rollouts_reached(path: Path) -> int:
    """Returns the number of rollouts that a checkpoint has had. Reads no weights.

    Raises:
        ConfigError: for the reasons of `step_reached`.
    """
    return _rollouts(_read_whole(path))["processed"]


def _read_whole(path: Path) -> dict[str, Any]:
    saved = read(path, f"ckpt_path={path}")
    progress = _rollouts(saved)
    if progress["ready"] != progress["processed"]:
        raise ConfigError(
            f"ckpt_path={path}: the checkpoint was written inside a rollout, and a run goes on "
            "from whole rollouts only; start from the model folder that stapo export makes of it"
        )
    return saved


def _rollouts(saved: dict[str, Any]) -> dict[str, int]:
    return saved["loops"]["fit_loop"]["epoch_progress"]["current"]
