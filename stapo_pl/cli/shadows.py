"""The command `stapo shadows`: what other objectives would have done in a run that was recorded."""

from __future__ import annotations

import argparse
import csv
import json
import sys

from jsonargparse import ArgumentParser

from stapo_pl.cli.configs import config_dir
from stapo_pl.cli.files import OverrideError, read_shadows
from stapo_pl.cli.recorded import find_run
from stapo_pl.core.errors import ConfigError
from stapo_pl.insight.offline import shadows_of, whole_rollouts
from stapo_pl.objectives import Objective


def main(words: list[str]) -> None:
    """Runs `stapo shadows RUN OBJECTIVE...`."""
    parser = argparse.ArgumentParser(prog="stapo shadows", description=__doc__)
    parser.add_argument("run", help="a run folder, or the folder of a run's name")
    parser.add_argument("objectives", nargs="+", help="names of files of configs/objective")
    args = parser.parse_args(words)
    try:
        folder = find_run(args.run)
        rollouts, others = whole_rollouts(folder)
        steps = dict(shadows_of(rollouts, _objectives(args.objectives)))
    except (ConfigError, OverrideError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    file = folder / "shadows.csv"
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        keys = list(next(iter(next(iter(steps.values())).values())))
        writer.writerow(["step", "shadow", *keys])
        for step, found in steps.items():
            writer.writerows([step, name, *values.values()] for name, values in found.items())
    print(f"{len(steps)} optimizer steps; means over them, and all values in {file}")
    if others:
        print(f"left out: {others} rollouts, of which not all tokens are recorded")
    print()
    print(f"{'':<16}" + "".join(f"{key:>20}" for key in keys))
    for name in next(iter(steps.values())):
        means = [sum(found[name][key] for found in steps.values()) / len(steps) for key in keys]
        print(f"{name:<16}" + "".join(f"{mean:>20.4g}" for mean in means))


def _objectives(names: list[str]) -> dict[str, Objective]:
    """Returns the objectives that files of configs/objective or import paths name."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--shadows", type=dict[str, Objective])
    settings = read_shadows(",".join(names), config_dir())
    parsed = parser.parse_args([f"--shadows={json.dumps(settings)}"])
    return parser.instantiate_classes(parsed).shadows
