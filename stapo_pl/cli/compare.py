"""Compares runs, or two evaluations of the same problems.

stapo compare RUN RUN ...
stapo compare logs/sweep/* --out logs/compare
stapo compare logs/evaluate-before logs/evaluate-after

RUN is a run folder, logs/NAME/version_N, or logs/NAME for its newest run. The command prints the
settings that differ and the first, last and best values of the main curves, and draws these curves
into compare.png and compare.html. Runs that differ only in their seed are drawn as one line, their
mean, inside a band from the lowest to the highest of them.

For two folders of `stapo evaluate` it prints the accuracies and a paired bootstrap interval of
their difference.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stapo_pl.cli.grammar import FIT
from stapo_pl.cli.recorded import find_run, recorded_settings
from stapo_pl.core.errors import ConfigError
from stapo_pl.insight.compare import (
    figures_table,
    group_by_setting,
    main_curves,
    panels,
    settings_table,
    short_names,
)
from stapo_pl.insight.curves import read_curves
from stapo_pl.insight.drawing import draw_html, draw_png
from stapo_pl.insight.evaluations import compare_evaluations, only_in_one


def main(words: list[str]) -> None:
    """Runs `stapo compare` with the words of its command line."""
    parser = argparse.ArgumentParser(
        prog="stapo compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs, or two evaluations")
    parser.add_argument("--out", type=Path, default=Path("logs/compare"), help="for the drawings")
    args = parser.parse_args(words)
    try:
        are_evaluations = [(Path(given) / "model.json").is_file() for given in args.runs]
        if any(are_evaluations):
            _compare_evaluations(args.runs, all(are_evaluations))
        else:
            _compare_runs(args.runs, args.out)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _compare_evaluations(given: list[str], are_all: bool) -> None:
    if not are_all:
        raise ConfigError("some of these are evaluations and some are not; compare like with like")
    if len(given) != 2:
        raise ConfigError(f"evaluations are compared two at a time, got {len(given)}")
    first, second = map(Path, given)
    print(compare_evaluations(first, second))
    if others := only_in_one(first, second):
        print(f"\nonly one of them has {', '.join(map(str, others))}")


def _compare_runs(given: list[str], out: Path) -> None:
    folders = [*dict.fromkeys(find_run(word).resolve() for word in given)]
    runs = dict(zip(_names(folders), folders, strict=True))
    settings = {
        name: {FIT.as_given(key): value for key, value in recorded_settings(folder).items()}
        for name, folder in runs.items()
    }
    curves = {name: read_curves(folder) for name, folder in runs.items()}
    if empty := [str(folder) for name, folder in runs.items() if not main_curves(curves[name])]:
        raise ConfigError(
            f"{', '.join(empty)}: no curves of a run; they are read from TensorBoard's event files "
            "or from metrics.csv (logger=tensorboard, logger=csv)"
        )
    grouped = group_by_setting(settings, curves)
    if len(runs) > 1:
        print(f"{settings_table(settings)}\n")
    print(f"{figures_table(grouped)}\n")
    for setting in grouped:
        if len(ends := setting.last_steps) > 1:
            print(f"{setting.name}: its seeds end at steps {ends}; its lines end at the first\n")
    drawn, names = panels(grouped), [setting.name for setting in grouped]
    try:
        out.mkdir(parents=True, exist_ok=True)
        draw_png(out / "compare.png", drawn, names)
        draw_html(out / "compare.html", drawn, names)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot write there: {error.strerror}") from None
    print(f"curves: {out / 'compare.png'}, {out / 'compare.html'}")


def _names(folders: Sequence[Path]) -> list[str]:
    """Returns a short name for each run folder."""
    names = [folder.parent.name for folder in folders]
    if len({*names}) < len(names):
        names = [f"{folder.parent.name}/{folder.name}" for folder in folders]
    if len({*names}) < len(names):
        return [str(folder) for folder in folders]
    return short_names(names)
