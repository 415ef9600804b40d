"""Checks an objective: python scripts/conformance.py my_package.MyLoss --like KEY"""

import sys

from stapo_pl.cli.command import run

if __name__ == "__main__":
    run("conformance", sys.argv[1:])
