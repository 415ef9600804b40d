"""Trains a policy: python scripts/fit.py objective=stapo"""

import sys
from pathlib import Path

from stapo_pl.cli.grammar import FIT, OverrideError, expand
from stapo_pl.cli.screen import first_screen

CONFIGS = Path(__file__).parents[1] / "configs"

if __name__ == "__main__":
    if (text := first_screen(sys.argv[1:], CONFIGS, FIT)) is not None:
        print(text)
        sys.exit()
    try:
        args = expand(sys.argv[1:], CONFIGS)
    except OverrideError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.path.append(str(Path.cwd()))  # where users keep objectives and rewards of their own
    from stapo_pl.cli.fit import main  # heavy, so after the check of the words

    main(args, CONFIGS)
