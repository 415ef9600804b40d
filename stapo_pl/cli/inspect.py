"""Makes one HTML file that shows what a run did with each recorded token.

stapo inspect logs/stapo-arithmetic-seed0
stapo inspect logs/stapo-arithmetic-seed0/version_0 --out page.html
stapo inspect --model MODEL task=gsm8k data.prompts_per_rollout=8 data.prompts_per_mini_batch=8

With --model, groups are sampled and graded once with any model, by the settings of `stapo fit`.
Nothing is trained: it is a run of one rollout with a learning rate of 0, so it needs the memory of
a run. The page shows what the objective would silence.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from stapo_pl.cli.recorded import ANY_RUN, find_run
from stapo_pl.cli.sampling import sample
from stapo_pl.core.errors import ConfigError
from stapo_pl.insight.inspector.data import page_data
from stapo_pl.insight.inspector.page import render
from stapo_pl.policy.loading import load_tokenizer
from stapo_pl.policy.model import shipped_policy


def main(words: list[str]) -> None:
    """Runs `stapo inspect` with the words of its command line."""
    parser = argparse.ArgumentParser(
        prog="stapo inspect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", help="a model folder or hub name to sample with")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="RUN",
        help="a run folder, or that of a name for its newest run; with --model, words of stapo fit",
    )
    parser.add_argument("--out", type=Path, help="the file to write; RUN/inspect.html otherwise")
    args = parser.parse_args(words)
    try:
        if args.model is not None:
            folder = sample(args.model, args.words)
        elif len(args.words) == 1:
            folder = find_run(args.words[0], ANY_RUN)
        else:
            raise ConfigError("stapo inspect needs one run folder, or --model MODEL")
        data = page_data(folder, tokenizer_of(folder))
        out = args.out or folder / "inspect.html"
        write(out, render(data))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
    for name, value in data.get("facts", []):
        print(f"  {name:<24} {value}")
    for note in data["notes"]:
        print(f"  {note}")


def tokenizer_of(folder: Path):
    """Returns the tokenizer of a run. None if the run has no config.yaml to name it."""
    config = folder / "config.yaml"
    if not config.is_file():
        return None
    path = yaml.safe_load(config.read_text())["model"]["path"]
    return load_tokenizer(path or str(shipped_policy()))


def write(file: Path, text: str) -> None:
    """Writes a file.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        file.write_text(text)
    except OSError as error:
        raise ConfigError(f"--out {file}: cannot be written: {error.strerror}") from None
