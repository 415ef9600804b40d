"""Where a run is logged, and how the run that ckpt_path=last means is found again."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stapo_pl.errors import ConfigError

# What a resumed run may change: it moves no weight, or by no more than rounding.
_FREE = (
    "data.validation", "data.benchmarks", "data.grading", "model.max_sampler_gap",
    "model.on_sampler_gap", "model.packing", "model.gradient_checkpointing", "model.compile_layers",
)  # fmt: skip
_VERSION = re.compile(r"version_(\d+)")


@dataclass
class Run:
    """Where a run is logged.

    Args:
        name: folder of the run under `logs`; None is the objective, the task, what was set
            otherwise than usual, and the seed. Each start makes a folder version_0, version_1, ...
            in it; ckpt_path=last continues the newest.
        objective: in that name; None is the class. `objective=stapo_v1` sets it to the file's name.
        task: likewise.
        logs: folder of all runs.
    """

    name: str | None = None
    objective: str | None = None
    task: str | None = None
    logs: str = "logs"


def check_writable(logs: Path) -> None:
    """Checks that runs can be written in `logs`, which is made if it is not there.

    Raises:
        ConfigError: they cannot.
    """
    try:
        logs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=logs):
            pass
    except OSError as error:
        raise ConfigError(f"run.logs={logs}: cannot write there: {error.strerror}") from error


def check_same_run(folder: Path, current: dict[str, Any]) -> None:
    """Checks that a run is resumed with the seed, model and data that it was started with.

    Args:
        folder: of the run.
        current: the whole config.

    Raises:
        ConfigError: something differs.
    """
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    for section in ("seed_everything", "model", "data"):
        was, now = _flat(saved[section], section), _flat(current[section], section)
        for key in sorted({*was, *now}):
            # What an older version wrote lacks settings that came later.
            is_new = not any(f"{key}.".startswith(f"{old}.") for old in was)
            if was.get(key) != now.get(key) and not is_new and not key.startswith(_FREE):
                raise ConfigError(
                    f"ckpt_path=last: {folder} was started with {key}={was.get(key)}, not "
                    f"{now.get(key)}; name its checkpoint in ckpt_path to go on all the same, or "
                    "set run.name for another run"
                )


def _flat(value: Any, prefix: str) -> dict[str, Any]:
    """Nested dictionaries as dotted keys."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key in value for k, v in _flat(value[key], f"{prefix}.{key}").items()}


def run_folders(root: Path) -> list[Path]:
    """The folders `version_0`, `version_1`, ... of a run's name, oldest first."""
    found = [p for p in root.glob("version_*") if _VERSION.fullmatch(p.name)]
    return sorted(found, key=lambda p: int(_VERSION.fullmatch(p.name)[1]))


def next_run_folder(root: Path) -> Path:
    folders = run_folders(root)
    number = int(_VERSION.fullmatch(folders[-1].name)[1]) + 1 if folders else 0
    return root / f"version_{number}"


def last_checkpoint(root: Path) -> Path:
    """The newest complete checkpoint of the newest run of this name that has one.

    Raises:
        ConfigError: there is none.
    """
    for folder in reversed(run_folders(root)):
        checkpoints = list((folder / "checkpoints").glob("*.ckpt"))
        if checkpoints:
            return max(checkpoints, key=lambda path: path.stat().st_mtime_ns)
    others = sorted(
        {path.parents[2].name for path in root.parent.glob("*/version_*/checkpoints/*")}
    )
    there = f"; there are runs {', '.join(others)}" if others else ""
    raise ConfigError(
        f"ckpt_path=last: there is no checkpoint in {root}{there}; a run is found by its settings "
        "or by run.name=NAME; leave ckpt_path out to start one"
    )
