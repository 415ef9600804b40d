"""Measures a policy on benchmarks: python scripts/evaluate.py model.path=MODEL benchmark=all"""

import sys
from pathlib import Path

from stapo_pl.cli.grammar import EVALUATE, OverrideError, expand
from stapo_pl.cli.screen import first_screen

CONFIGS = Path(__file__).parents[1] / "configs"

if __name__ == "__main__":
    if (text := first_screen(sys.argv[1:], CONFIGS, EVALUATE)) is not None:
        print(text)
        sys.exit()
    try:
        args = expand(sys.argv[1:], CONFIGS, EVALUATE)
    except OverrideError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.path.append(str(Path.cwd()))  # where users keep rewards and tasks of their own
    from stapo_pl.cli.evaluate import main  # heavy, so after the check of the words

    main(args, CONFIGS)
