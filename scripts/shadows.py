"""Shows what other objectives would have done: python scripts/shadows.py RUN grpo entropy20"""

import sys

from stapo_pl.cli.command import run

if __name__ == "__main__":
    run("shadows", sys.argv[1:])
