"""Trains over settings: python scripts/sweep.py objective=grpo,stapo seed_everything=0,1"""

import sys

from stapo_pl.cli.command import run

if __name__ == "__main__":
    run("sweep", sys.argv[1:])
