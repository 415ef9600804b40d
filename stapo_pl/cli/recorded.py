"""Finds run folders, and says which settings their runs had and whether they have finished."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from stapo_pl.cli.naming import flat
from stapo_pl.core.errors import ConfigError
from stapo_pl.insight.curves import read_curves
from stapo_pl.training.checkpoint_io import rollouts_reached
from stapo_pl.training.runs import newest_checkpoint, run_folders

_CONFIG = "config.yaml"
# The names and the place of a run. Two runs of the same settings may differ in them.
_NAMES = ("run.name", "run.objective", "run.task", "run.experiment", "run.logs")


# A run from Python has no config.yaml, but curves or records.
ANY_RUN = (_CONFIG, "metrics.csv", "records", "events.out.tfevents.*")


def find_run(given: str, marks: tuple[str, ...] = (_CONFIG,)) -> Path:
    """Returns the run folder that a word means.

    Args:
        given: a run folder, or the folder of a run's name, for the newest run in it.
        marks: patterns of files. A folder that has one of them is a run folder.

    Raises:
        ConfigError: there is none.
    """
    path = Path(given).expanduser()
    for folder in (path, *reversed(run_folders(path))):
        if any(True for mark in marks for _ in folder.glob(mark)):
            return folder
    if not path.exists():
        raise ConfigError(f"{given}: no such folder")
    raise ConfigError(
        f"{given}: not a run; name a run folder, logs/NAME/version_N, or logs/NAME for its newest"
    )


def comparable(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns settings by dotted keys, without the names and the place of the run.

    A run that went on from its own last checkpoint is like one that was never stopped.
    """
    values = {key: value for key, value in flat(settings).items() if key not in _NAMES}
    if values.get("ckpt_path") == "last":
        values["ckpt_path"] = None
    return values


def recorded_settings(folder: Path) -> dict[str, Any]:
    """Returns the comparable settings of a run.

    Raises:
        ConfigError: its config.yaml cannot be read.
    """
    file = folder / _CONFIG
    try:
        settings = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"{file}: holds no settings")
    return comparable(settings)


def runs_with(logs: Path, settings: dict[str, Any]) -> list[Path]:
    """Returns the folders of all runs that have these settings, newest first.

    Args:
        logs: the folder of all runs.
        settings: what `comparable` returns.
    """
    found = []
    for file in logs.glob(f"**/version_*/{_CONFIG}"):
        # Other runs may be writing this file now, or removing it.
        with suppress(ConfigError, OSError):
            if recorded_settings(file.parent) == settings:
                found.append((file.stat().st_mtime_ns, file.parent))
    return [folder for _, folder in sorted(found, reverse=True)]


def has_finished(folder: Path) -> bool:
    """Returns whether a run has had its last rollout, and has validated after it.

    The newest checkpoint says how many rollouts the run has had. The last validation comes after
    it, so a run that was killed in between has no accuracy of its last policy.
    """
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None:
        return False
    try:
        reached = rollouts_reached(checkpoint)
    except ConfigError:  # an older version of this package wrote it, or it is inside a rollout
        return False
    if reached < recorded_settings(folder)["trainer.max_epochs"]:
        return False
    curves = read_curves(folder)
    validated = [max(points) for name, points in curves.items() if name.startswith("val/")]
    return not validated or max(validated) == max(map(max, curves.values()))
