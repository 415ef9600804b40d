"""Reads the curves of a run back from its folder."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

Curves = dict[str, dict[int, float]]
"""The points of each curve by its name: values by optimizer steps, in the order of the steps."""


def read_curves(folder: Path) -> Curves:
    """Returns all curves in a run folder. The result is empty if no logger wrote any into it.

    They come from TensorBoard's event files and from metrics.csv. A run that was resumed with
    another logger has both.
    """
    curves: Curves = defaultdict(dict)
    if any(folder.glob("events*")):
        # This import takes a second, and a run with logger=csv does not need it.
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        for name in events.Tags()["scalars"]:
            curves[name] |= {event.step: event.value for event in events.Scalars(name)}
    table = folder / "metrics.csv"
    if table.is_file():
        with table.open(newline="") as file:
            # If the run was killed while it wrote, its last line is cut.
            for row in csv.DictReader(line for line in file if line.endswith("\n")):
                step = int(row.pop("step"))
                for name, value in row.items():
                    if value:
                        curves[name][step] = float(value)
    # A curve has no points if a resumed run has hidden them and has not drawn it again.
    return {name: dict(sorted(points.items())) for name, points in curves.items() if points}
