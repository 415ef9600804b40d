"""Makes a page of a run's tokens: python scripts/inspect_run.py logs/stapo-arithmetic-seed0"""

import sys

from stapo_pl.cli.command import run

if __name__ == "__main__":
    run("inspect", sys.argv[1:])
