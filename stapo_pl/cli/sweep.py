"""Trains with all combinations of some settings, and prints a table of what they reached.

stapo sweep objective=grpo,stapo seed_everything=0,1,2 model.optimizer.lr=1e-4,4e-4
stapo sweep objective=stapo sampler=transformers,vllm trainer.max_epochs=20 --jobs 1

A word with commas names several values, and every combination of them is a run. A comma inside of
brackets or braces does not count, so a list for each run is written logger=[csv,tensorboard]. Other
words go to every run. A run is not repeated if one with the same settings has finished before in
the folder of all runs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean

from stapo_pl.cli.combinations import Combination, combinations
from stapo_pl.cli.recorded import has_finished, runs_with
from stapo_pl.core.errors import ConfigError, TrainingError
from stapo_pl.evaluation.report import markdown
from stapo_pl.insight.compare import SEED
from stapo_pl.insight.curves import Curves, read_curves

# The columns of the table: a curve, which of its values, and how that is written.
_COLUMNS = {
    "greedy before": ("val/accuracy_greedy", "first", ".1%"),
    "greedy after": ("val/accuracy_greedy", "last", ".1%"),
    "sampled before": ("val/accuracy", "first", ".1%"),
    "sampled after": ("val/accuracy", "last", ".1%"),
    "entropy first": ("policy/entropy", "first", ".3f"),
    "entropy last": ("policy/entropy", "last", ".3f"),
    "grad norm": ("policy/grad_norm", "mean", ".3f"),
    "silenced": ("policy/silenced_fraction", "mean", ".3%"),
}
_VALUES = {"first": lambda values: values[0], "last": lambda values: values[-1], "mean": fmean}


def run_or_reuse(combination: Combination, jobs: int) -> Path:
    """Returns the folder of a finished run. It is trained now, unless it is there.

    Args:
        combination: the run.
        jobs: the number of runs at a time, which share the cores.

    Raises:
        TrainingError: the run failed.
    """
    name, logs = combination.name, combination.logs
    for folder in runs_with(logs, combination.settings):
        if has_finished(folder):
            _say(f"{name}: reused, {folder}")
            return folder
    _say(f"{name}: is trained ...")
    threads = {"OMP_NUM_THREADS": str(max(1, os.cpu_count() // jobs))}
    command = [sys.executable, "-m", "stapo_pl.cli", "fit", *combination.words]
    result = subprocess.run(command, env=threads | os.environ, capture_output=True, text=True)
    if result.returncode:
        raise TrainingError(f"{name} failed:\n{result.stderr}")
    folder = runs_with(logs, combination.settings)[0]
    _say(f"{name}: done, {folder}\n{result.stdout}")
    return folder


def table(runs: Sequence[tuple[dict[str, str], Curves]]) -> str:
    """Returns a table with a row for each combination, which is the mean over its seeds.

    Args:
        runs: the values of the axes, and the curves, of each run.
    """
    keys = [key for key in runs[0][0] if key != SEED]
    rows: dict[tuple[str, ...], list[Curves]] = {}
    for chosen, curves in runs:
        rows.setdefault(tuple(chosen[key] for key in keys), []).append(curves)
    return markdown(
        [*keys, "seeds", *_COLUMNS],
        [[*row, str(len(seeds)), *(_cell(seeds, *column) for column in _COLUMNS.values())]
         for row, seeds in rows.items()],
    )  # fmt: skip


def _cell(seeds: Sequence[Curves], curve: str, which: str, form: str) -> str:
    """Returns the mean over seeds of a value of a curve, or no text if none has the curve."""
    found = [_VALUES[which]([*curves[curve].values()]) for curves in seeds if curve in curves]
    return format(fmean(found), form) if found else ""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(words: list[str]) -> None:
    """Runs `stapo sweep` with the words of its command line."""
    parser = argparse.ArgumentParser(
        prog="stapo sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, which share the cores")
    parser.add_argument("--logs", default="logs/sweep", help="the folder of all runs")
    parser.add_argument("words", nargs="*", help="words of stapo fit; KEY=VALUE,VALUE is an axis")
    args = parser.parse_intermixed_args(words)
    try:
        if args.jobs < 1:
            raise ConfigError(f"--jobs must be at least 1, got {args.jobs}")
        runs = combinations(args.words, args.logs)
        with ThreadPoolExecutor(args.jobs) as pool:
            folders = [*pool.map(lambda run: run_or_reuse(run, args.jobs), runs)]
    except ConfigError as error:
        _say(f"error: {error}")
        sys.exit(2)
    except TrainingError as error:
        _say(f"error: {error}")
        sys.exit(1)
    chosen = [run.chosen for run in runs]
    print(table([*zip(chosen, map(read_curves, folders), strict=True)]))
    print(f"\nto see their curves: stapo compare {' '.join(map(str, folders))}")
