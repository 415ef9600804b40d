"""Makes a Hugging Face model folder from a checkpoint.

stapo export last OUT
stapo export logs/stapo-arithmetic-seed0/version_0/checkpoints/rollout-00074.ckpt OUT
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stapo_pl.cli.checkpoints import find_checkpoint
from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.export import export


def main(words: list[str]) -> None:
    """Runs `stapo export` with the words of its command line."""
    parser = argparse.ArgumentParser(
        prog="stapo export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoint",
        help="a checkpoint, the folder of a run for its newest, or `last` for that of all runs",
    )
    parser.add_argument("out", type=Path, help="the model folder to make")
    parser.add_argument("--logs", default="logs", help="folder of all runs, for `last`")
    parser.add_argument("--overwrite", action="store_true", help="replace it if it is there")
    args = parser.parse_args(words)
    try:
        if (checkpoint := find_checkpoint(args.checkpoint, args.logs)) is None:
            raise ConfigError(f"{args.checkpoint}: no checkpoint, folder of a run, or `last`")
        export(checkpoint, args.out, args.overwrite)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"wrote {args.out}, of {checkpoint}")
