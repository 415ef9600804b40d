"""The progress bar that every long task of the project uses."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

# Seconds between two lines when the output is a file. A terminal redraws one line in place, but a
# file gets a new line for every update.
_FILE_INTERVAL = 10.0


def progress_bar(**kwargs: Any) -> tqdm:
    """Returns a progress bar that suits a terminal and a log file.

    It shows the mean rate since its start.
    """
    return tqdm(
        dynamic_ncols=True,
        smoothing=0,
        mininterval=0.1 if sys.stderr.isatty() else _FILE_INTERVAL,
        **kwargs,
    )
