"""Compares runs: python scripts/compare.py logs/NAME logs/OTHER"""

import sys

from stapo_pl.cli.command import run

if __name__ == "__main__":
    run("compare", sys.argv[1:])
