"""Trains with several objectives, samplers and seeds, and prints a table of the results.

stapo compare --objectives grpo dapo stapo --seeds 0 1 2
stapo compare --objectives stapo --samplers transformers vllm --seeds 0 1 2

Words after `--` go to every run, for example `-- trainer.max_epochs=20`. If a run with the same
settings has finished before, it is not repeated.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stapo_pl.cli.configs import config_dir
from stapo_pl.cli.fit import StapoCLI
from stapo_pl.cli.grammar import OverrideError, expand
from stapo_pl.core.errors import ConfigError
from stapo_pl.training.runs import run_folders

FINISHED = "compared"  # this file in a run folder says that the run has finished
COLUMNS = {
    "greedy before": lambda c: f"{c['val/accuracy_greedy'][0]:.1%}",
    "greedy after": lambda c: f"{c['val/accuracy_greedy'][-1]:.1%}",
    "sampled before": lambda c: f"{c['val/accuracy'][0]:.1%}",
    "sampled after": lambda c: f"{c['val/accuracy'][-1]:.1%}",
    "entropy first": lambda c: f"{c['policy/entropy'][0]:.3f}",
    "entropy last": lambda c: f"{c['policy/entropy'][-1]:.3f}",
    "grad norm": lambda c: f"{mean(c['policy/grad_norm']):.3f}",
    "silenced": lambda c: f"{mean(c['policy/silenced_fraction']):.3%}",
}


def curves(folder: Path) -> dict[str, list[float]]:
    """Returns all curves in a run folder: for each name, the values in order."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [e.value for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def resolved(words: list[str]) -> dict[str, Any]:
    """Returns all settings of a run with these words. If they are wrong, the process ends."""
    text = io.StringIO()
    try:
        with redirect_stdout(text):
            StapoCLI([*expand(words, config_dir()), "--print_config"], config_dir())
    except (OverrideError, ConfigError) as error:
        sys.exit(f"error: {error}")
    except SystemExit as end:  # the parser exits with 0 after printing, and otherwise refuses
        if end.code:
            raise
    return yaml.safe_load(text.getvalue())


def finished(root: Path, settings: dict[str, Any]) -> Path | None:
    """Returns the folder of a run that has finished with these settings, or None."""
    for folder in reversed(run_folders(root)):
        is_finished = (folder / FINISHED).exists()
        if is_finished and yaml.safe_load((folder / "config.yaml").read_text()) == settings:
            return folder
    return None


def train(name: str, words: list[str], settings: dict[str, Any], args) -> dict[str, list[float]]:
    """Trains in a process of its own, unless such a run has finished, and returns its curves."""
    if folder := finished(Path(args.logs) / name, settings):
        print(f"{name} is there: {folder}", file=sys.stderr, flush=True)
        return curves(folder)
    threads = {"OMP_NUM_THREADS": str(max(1, os.cpu_count() // args.jobs))}
    print(f"{name} ...", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "stapo_pl.cli", "fit", *words]
    result = subprocess.run(command, env=threads | os.environ, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{name} failed:\n{result.stderr}")
    (folder,) = map(Path, re.findall(r"tensorboard --logdir (.+)$", result.stdout, re.MULTILINE))
    (folder / FINISHED).touch()
    print(f"{name} done:\n{result.stdout}", file=sys.stderr, flush=True)
    return curves(folder)


def main(words: list[str]) -> None:
    """Runs `stapo compare` with the words of its command line."""
    parser = argparse.ArgumentParser(
        prog="stapo compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--objectives", nargs="+", default=["grpo", "dapo", "stapo"])
    parser.add_argument("--samplers", nargs="+", default=["transformers"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, which share the cores")
    parser.add_argument("--logs", default="logs/compare")
    parser.add_argument("words", nargs="*", help="after --: words for every run")
    args = parser.parse_args(words)
    runs = list(itertools.product(args.objectives, args.samplers, args.seeds))
    todo = []
    for objective, sampler, seed in runs:
        name = f"{objective}-{sampler}-seed{seed}"
        words = [f"objective={objective}", f"sampler={sampler}", f"seed_everything={seed}"]
        words += [f"run.name={name}", f"run.logs={args.logs}", *args.words]
        todo.append((name, words, resolved(words)))
    with ThreadPoolExecutor(args.jobs) as pool:
        results = list(pool.map(lambda run: train(run[0], run[1], run[2], args), todo))
    print(f"| objective | sampler | seed | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 3) + "|")
    for run, result in zip(runs, results, strict=True):
        print(
            f"| {' | '.join(map(str, run))} | {' | '.join(f(result) for f in COLUMNS.values())} |"
        )
