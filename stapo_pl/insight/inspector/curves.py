"""Reads the curves of a run folder, whichever logger wrote them."""

from __future__ import annotations

import csv
from pathlib import Path

Curve = tuple[list[int], list[float]]
"""The steps of a curve, and its values."""


def read_curves(folder: Path) -> dict[str, Curve]:
    """Returns all curves in a run folder by name. A run that is still going has those so far."""
    if any(folder.glob("events.out.tfevents.*")):
        return _of_events(folder)
    if (folder / "metrics.csv").is_file():
        return _of_table(folder / "metrics.csv")
    return {}


def _of_events(folder: Path) -> dict[str, Curve]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    curves = {}
    for name in events.Tags()["scalars"]:
        points = events.Scalars(name)
        curves[name] = ([p.step for p in points], [p.value for p in points])
    return curves


def _of_table(file: Path) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    with file.open(newline="") as lines:
        # The last line is cut if the run is writing it just now.
        for row in csv.DictReader(line for line in lines if line.endswith("\n")):
            step = int(row.pop("step"))
            for name, value in row.items():
                if value:
                    steps, values = curves.setdefault(name, ([], []))
                    steps.append(step)
                    values.append(float(value))
    return curves
