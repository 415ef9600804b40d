"""Where the configs are."""

from __future__ import annotations

from pathlib import Path


def config_dir() -> Path:
    """The folder of the configs: of a clone its `configs/`, else the copy that a wheel brings."""
    package = Path(__file__).parents[1]
    shipped = package / "configs"
    return shipped if shipped.is_dir() else package.parent / "configs"
