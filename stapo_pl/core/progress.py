"""What every progress bar of the project has in common."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

# Seconds between lines where the output is a file, not a terminal.
_FILE_INTERVAL = 10.0


def progress_bar(**kwargs: Any) -> tqdm:
    """A bar with the mean rate from its start on, which also suits a log file."""
    return tqdm(
        dynamic_ncols=True,
        smoothing=0,
        mininterval=0.1 if sys.stderr.isatty() else _FILE_INTERVAL,
        **kwargs,
    )
