"""Compares objectives: python scripts/compare.py --objectives grpo stapo --seeds 0 1"""

import sys

from stapo_pl.cli.command import run

if __name__ == "__main__":
    run("compare", sys.argv[1:])
