"""What a run may go on from, and what has changed since."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import yaml

from stapo_pl.cli.naming import ROUNDING, SILENT, flat, is_in
from stapo_pl.core.errors import ConfigError

# What a run is made of, whose changes concern a resumed one.
_SECTIONS = ("seed_everything", "model", "data", "sampler", "trainer")
# Of the trainer's settings, those that have a say in the weights.
_TRAINER = (
    "trainer.gradient_clip_val", "trainer.gradient_clip_algorithm", "trainer.precision",
    "trainer.strategy", "trainer.accumulate_grad_batches", "trainer.devices", "trainer.num_nodes",
    "trainer.max_epochs",
)  # fmt: skip
# What a resumed run may change, and says: the same steps but for rounding and the engine's random
# numbers, or more of them. (What is silent it may change as well.)
_NAMED = (
    *ROUNDING, "sampler", "trainer.strategy", "trainer.accumulate_grad_batches", "trainer.devices",
    "trainer.num_nodes", "trainer.max_epochs",
)  # fmt: skip


def changes_since(folder: Path, current: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs from the settings that a run had last: of each key, the old and the new value.

    Settings without a say in the weights do not count, nor do those that the version which wrote
    the run did not know.

    Args:
        folder: of the run.
        current: the whole config.
    """
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    changes = {}
    for section in _SECTIONS:
        was, now = flat(saved.get(section), section), flat(current[section], section)
        for key in sorted({*was, *now}):
            is_new = not any(is_in(key, (old,)) for old in was)
            counts = not is_in(key, SILENT) and (section != "trainer" or is_in(key, _TRAINER))
            if counts and not is_new and was.get(key) != now.get(key):
                changes[key] = was.get(key), now.get(key)
    return changes


def check_same_run(folder: Path, changes: dict[str, tuple[Any, Any]]) -> None:
    """Checks that ckpt_path=last goes on with the settings that have a say in the weights.

    Raises:
        ConfigError: one of them differs.
    """
    for key, (was, now) in changes.items():
        if not is_in(key, _NAMED):
            raise ConfigError(
                f"ckpt_path=last: {folder} was started with {key}={was}, not {now}; name its "
                "checkpoint in ckpt_path to go on all the same, or set run.name for another run"
            )


def describe_changes(changes: dict[str, tuple[Any, Any]]) -> str:
    """For people, in one line."""
    listed = (f"{key} {was} -> {now}" for key, (was, now) in changes.items())
    return f"changed since the checkpoint: {', '.join(listed) or 'nothing'}"


def check_checkpoint(path: Path, sharded: bool) -> None:
    """Checks that a run, which shards its policy or not, can go on from a checkpoint.

    Raises:
        ConfigError: it cannot.
    """
    whole = (path / "meta.pt").is_file() if path.is_dir() else zipfile.is_zipfile(path)
    if not whole:
        raise ConfigError(f"ckpt_path={path}: not a checkpoint")
    if path.is_dir() and not sharded:
        raise ConfigError(
            f"ckpt_path={path}: the checkpoint is sharded; go on with trainer=fsdp, on any number "
            "of ranks, or make a model folder of it with stapo export"
        )
    if path.is_file() and sharded:
        raise ConfigError(
            f"ckpt_path={path}: the checkpoint is not sharded; go on without trainer=fsdp, or "
            "start from the model folder that stapo export makes of it"
        )
