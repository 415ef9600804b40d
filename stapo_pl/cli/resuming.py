"""Finds the settings that have changed since a checkpoint, and whether a run may change them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from stapo_pl.cli.naming import ROUNDING, SILENT, flat, is_in
from stapo_pl.core.errors import ConfigError

# The parts of the config tree that are compared.
_SECTIONS = ("seed_everything", "model", "data", "sampler", "trainer")
# The settings of the trainer that have an effect on the weights.
_TRAINER = (
    "trainer.gradient_clip_val", "trainer.gradient_clip_algorithm", "trainer.precision",
    "trainer.strategy", "trainer.accumulate_grad_batches", "trainer.devices", "trainer.num_nodes",
    "trainer.max_epochs",
)  # fmt: skip
# Settings that a resumed run may change. It prints the change, because the steps then differ by
# rounding or by the sampler's random numbers, or there are more of them. (Settings without an
# effect on the weights may change too, and are not printed.)
_NAMED = (
    *ROUNDING, "sampler", "trainer.strategy", "trainer.accumulate_grad_batches", "trainer.devices",
    "trainer.num_nodes", "trainer.max_epochs",
)  # fmt: skip


def changes_since(folder: Path, current: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns the old and the new value of each setting that has changed since the checkpoint.

    Settings that have no effect on the weights are left out. So are settings that the run does not
    list because an older version of this package wrote it.

    Args:
        folder: the run folder, whose config.yaml holds the old settings.
        current: all settings now.
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
    """Checks that a run with ckpt_path=last changes no setting that must stay the same.

    Args:
        folder: the run folder, for the message.
        changes: what `changes_since` returns.

    Raises:
        ConfigError: such a setting has changed.
    """
    for key, (was, now) in changes.items():
        if not is_in(key, _NAMED):
            raise ConfigError(
                f"ckpt_path=last: {folder} was started with {key}={was}, not {now}; name its "
                "checkpoint in ckpt_path to go on all the same, or set run.name for another run"
            )


def describe_changes(changes: dict[str, tuple[Any, Any]]) -> str:
    """Returns a line for people that lists the changes."""
    listed = (f"{key} {was} -> {now}" for key, (was, now) in changes.items())
    return f"changed since the checkpoint: {', '.join(listed) or 'nothing'}"
