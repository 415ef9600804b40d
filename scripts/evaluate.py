"""Measures a policy on benchmarks: python scripts/evaluate.py model.path=MODEL benchmark=all"""

import sys

from stapo_pl.cli.command import run

if __name__ == "__main__":
    run("evaluate", sys.argv[1:])
