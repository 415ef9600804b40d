"""Finds the folder of the YAML files that the command reads."""

from __future__ import annotations

from pathlib import Path


def config_dir() -> Path:
    """Returns `configs/` of a clone, or the copy of it inside an installed package."""
    package = Path(__file__).parents[1]
    shipped = package / "configs"
    return shipped if shipped.is_dir() else package.parent / "configs"
