"""Trains with several objectives, samplers and seeds and prints a table of what they reached.

python scripts/compare.py --objectives grpo dapo stapo --seeds 0 1 2
python scripts/compare.py --objectives stapo --samplers transformers vllm --seeds 0 1 2

Words after `--` go to every run, such as `-- trainer.max_epochs=20`. Runs that are finished already
are not repeated.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

FIT = Path(__file__).parent / "fit.py"
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
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [e.value for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def train(objective: str, sampler: str, seed: int, args) -> dict[str, list[float]]:
    name = f"{objective}-{sampler}-seed{seed}"
    folder = Path(args.logs) / name / "version_0"
    if not (folder / "finished").exists():
        words = [f"objective={objective}", f"sampler={sampler}"]
        words += [f"seed_everything={seed}", f"run.name={name}"]
        command = [sys.executable, str(FIT), *words, f"run.logs={args.logs}", *args.words]
        environment = os.environ | {"OMP_NUM_THREADS": str(max(1, os.cpu_count() // args.jobs))}
        print(f"{name} ...", file=sys.stderr, flush=True)
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        if result.returncode:
            sys.exit(f"{name} failed:\n{result.stderr}")
        (folder / "finished").touch()
        print(f"{name} done:\n{result.stdout}", file=sys.stderr, flush=True)
    return curves(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objectives", nargs="+", default=["grpo", "dapo", "stapo"])
    parser.add_argument("--samplers", nargs="+", default=["transformers"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, which share the cores")
    parser.add_argument("--logs", default="logs/compare")
    parser.add_argument("words", nargs="*", help="after --: words for every run")
    args = parser.parse_args()
    runs = list(itertools.product(args.objectives, args.samplers, args.seeds))
    with ThreadPoolExecutor(args.jobs) as pool:
        results = list(pool.map(lambda run: train(*run, args), runs))
    print(f"| objective | sampler | seed | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 3) + "|")
    for run, result in zip(runs, results, strict=True):
        print(
            f"| {' | '.join(map(str, run))} | {' | '.join(f(result) for f in COLUMNS.values())} |"
        )


if __name__ == "__main__":
    main()
