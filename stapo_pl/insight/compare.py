"""Compares runs: the settings that differ, and their curves, where seeds make a band.

Runs that differ only in their seed have one *setting*, and are shown together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from stapo_pl.evaluation.report import markdown
from stapo_pl.insight.curves import Curves
from stapo_pl.insight.table import EVERY_ROLLOUT, EVERY_STEP, VALIDATED, show

SEED = "seed_everything"
# For these curves the highest value is the best one.
_HIGHER_IS_BETTER = ("val/", "reward/", "throughput/")
_LONGEST_VALUE = 40  # characters of a value in the table of settings


@dataclass
class Band:
    """A curve of several seeds, at the steps that all of them have."""

    steps: list[int]
    mean: list[float]
    low: list[float]
    """The lowest value of any seed."""
    high: list[float]
    """The highest value of any seed."""


@dataclass
class Setting:
    """The runs that differ only in their seed."""

    name: str
    curves: list[Curves]
    """The curves of each run."""

    @property
    def last_steps(self) -> list[int]:
        """The steps at which runs end, each once. There are several if a run was cut short."""
        return sorted({max(map(max, curves.values())) for curves in self.curves})

    def band(self, curve: str) -> Band | None:
        """Returns a curve of all runs together, or None if they have no point in common."""
        runs = [curves.get(curve, {}) for curves in self.curves]
        steps = [step for step in runs[0] if all(step in points for points in runs)]
        if not steps:
            return None
        values = [[points[step] for points in runs] for step in steps]
        return Band(steps, [*map(fmean, values)], [*map(min, values)], [*map(max, values)])


@dataclass
class Panel:
    """One curve of all settings that have it."""

    curve: str
    bands: dict[str, Band]
    """The band of each setting by its name."""


def group_by_setting(
    settings: Mapping[str, Mapping[str, Any]], curves: Mapping[str, Curves]
) -> list[Setting]:
    """Puts runs together that differ only in their seed.

    Args:
        settings: the settings of each run, by the name of the run and by dotted keys.
        curves: the curves of each run, by the name of the run.
    """
    groups: dict[str, list[str]] = {}
    for run, values in settings.items():
        others = {key: value for key, value in values.items() if key != SEED}
        groups.setdefault(json.dumps(others, sort_keys=True, default=str), []).append(run)
    found = []
    names = [re.sub(r"-seed\d+", "", runs[0]) for runs in groups.values()]
    for name, runs in zip(names, groups.values(), strict=True):
        # Not all settings are in the name of a run, so two groups may be called the same.
        called = name if names.count(name) == 1 else runs[0]
        found.append(Setting(called, [curves[run] for run in runs]))
    return found


def differing(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Returns the settings that are not the same in all runs: for each key a text for each run.

    The text is empty if a run has no such setting, because it belongs to another class.
    """
    runs = [*settings.values()]
    keys = sorted({key for values in runs for key in values}, key=lambda key: (key != SEED, key))
    texts = {key: [_text(values[key]) if key in values else "" for values in runs] for key in keys}
    return {key: row for key, row in texts.items() if len({*row}) > 1}


def settings_table(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns a table of the settings that differ, with a column for each run."""
    rows = [[key, *map(_cut, row)] for key, row in differing(settings).items()]
    return markdown(["setting", *settings], rows) if rows else "no setting differs"


def panels(settings: Sequence[Setting]) -> list[Panel]:
    """Returns the main curves that at least one setting has."""
    present = {name for setting in settings for curves in setting.curves for name in curves}
    found = []
    for name in main_curves(present):
        bands = {s.name: band for s in settings if (band := s.band(name)) is not None}
        if bands:
            found.append(Panel(name, bands))
    return found


def figures_table(settings: Sequence[Setting]) -> str:
    """Returns a table of the main curves: their first, last and best values.

    Values are means over the seeds of a setting. Curves of which no value is the best have their
    range instead, over all seeds.
    """
    rows = []
    for panel in panels(settings):
        for setting in settings:
            runs = [[*curves[panel.curve].values()] for curves in setting.curves
                    if panel.curve in curves]  # fmt: skip
            if not runs:
                continue
            if panel.curve.startswith(_HIGHER_IS_BETTER):
                best = show(panel.curve, fmean(map(max, runs)))
            else:
                ends = min(map(min, runs)), max(map(max, runs))
                best = " to ".join(dict.fromkeys(show(panel.curve, end) for end in ends))
            first, last = (show(panel.curve, fmean(run[i] for run in runs)) for i in (0, -1))
            rows.append([panel.curve, setting.name, str(len(runs)), first, last, best])
    return markdown(["curve", "setting", "seeds", "first", "last", "best, or range"], rows)


def short_names(names: Sequence[str]) -> list[str]:
    """Returns names without the parts that all of them have, apart from the first part.

    Example:
        >>> short_names(["grpo-arithmetic-seed0", "stapo-arithmetic-seed0"])
        ['grpo', 'stapo']
    """
    parts = [name.split("-") for name in names]
    common = set(parts[0]).intersection(*parts[1:]) if len(names) > 1 else set()
    short = ["-".join(p for i, p in enumerate(each) if not i or p not in common) for each in parts]
    return short if len({*short}) == len(names) else [*names]


def main_curves(present: Iterable[str]) -> list[str]:
    """Returns the main curves among the present ones, in the order in which they are shown."""
    accuracies = [name for name in VALIDATED if name.startswith("val/accuracy")]
    of_benchmarks = {n for n in present if re.fullmatch(r"val/[^/]+/accuracy(_greedy)?", n)}
    reward, throughput = EVERY_ROLLOUT
    order = [*accuracies, *sorted(of_benchmarks), reward, *EVERY_STEP, throughput]
    return [name for name in order if name in {*present}]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."
