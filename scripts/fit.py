"""Trains a policy: python scripts/fit.py objective=stapo"""

import sys

from stapo_pl.cli.command import run

if __name__ == "__main__":
    run("fit", sys.argv[1:])
