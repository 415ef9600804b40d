"""Makes a model folder of a checkpoint: python scripts/export.py last OUT"""

import sys

from stapo_pl.cli.command import run

if __name__ == "__main__":
    run("export", sys.argv[1:])
