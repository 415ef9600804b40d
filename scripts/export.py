"""Makes a Hugging Face model folder from a checkpoint.

python scripts/export.py logs/stapo-arithmetic-seed0/version_0/checkpoints/rollout-00074.ckpt OUT
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stapo_pl.errors import ConfigError
from stapo_pl.export import export


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="a file, or the folder of a sharded one")
    parser.add_argument("out", type=Path, help="the model folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace it if it is there")
    args = parser.parse_args()
    try:
        export(args.checkpoint, args.out, args.overwrite)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
