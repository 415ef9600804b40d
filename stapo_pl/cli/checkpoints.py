"""Finds the checkpoint that a word of the command line means, and makes a model folder of it."""

from __future__ import annotations

from pathlib import Path

from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.export import export


def find_checkpoint(given: str, logs: str = "logs") -> Path | None:
    """Returns the checkpoint that a word means. None if the word is a model folder or hub name.

    Args:
        given: a checkpoint; or a run folder or the folder of a run's name, for the newest
            checkpoint in it; or `last`, for the newest checkpoint of all runs.
        logs: the folder of all runs.

    Raises:
        ConfigError: there is no such checkpoint.
    """
    path = Path(logs) if given == "last" else Path(given).expanduser()
    if path.is_file() or path.suffix == ".ckpt":
        if not path.exists():
            raise ConfigError(f"{given}: no such checkpoint")
        return path
    is_run = given == "last" or (path / "checkpoints").is_dir() or any(path.glob("version_*"))
    if not is_run:
        return None
    if found := [
        file
        for pattern in ("checkpoints", "version_*/checkpoints", "*/version_*/checkpoints")
        for file in path.glob(f"{pattern}/*.ckpt")
        if file.exists()  # a link may point to a file that was deleted
    ]:
        return max(found, key=lambda file: file.stat().st_mtime_ns)
    raise ConfigError(f"{given}: there is no checkpoint in {path}")


def exported(checkpoint: Path) -> Path:
    """Returns the model folder of a checkpoint, and makes it if it is missing or too old.

    It lies in the run folder of the checkpoint.
    """
    out = checkpoint.absolute().parents[1] / "models" / checkpoint.stem
    is_there = (out / "config.json").is_file()
    if not is_there or out.stat().st_mtime_ns < checkpoint.stat().st_mtime_ns:
        out.parent.mkdir(exist_ok=True)
        export(checkpoint, out, overwrite=True)
    return out
