"""Checks an objective: beside verl's numbers, and for what every objective keeps to.

stapo conformance my_package.MyLoss
stapo conformance my_package.MyLoss clip_high=0.28 --like "cispo(low=0.2,high=0.28) token-mean"
stapo conformance --list

The loss and its gradient must not depend on how a mini-batch is cut into micro-batches, nor on the
order of its sequences. A token that a selection silences must have no gradient at all. With --like,
the objective must also give what verl 0.9.1 computed in float64 on three mini-batches. --list shows
what that can be, and the beginning of a key is enough if no other key begins so: for a loss, the
loss and its gradient are compared; for an advantage, that of rollout.advantage and token_advantage;
for a correction, the weights of the objective's correction.

KEY=VALUE is a setting of the class. In `stapo fit` it is objective.KEY=VALUE, which is understood
here too. The command ends with 1 if a check fails.
"""

from __future__ import annotations

import argparse
import sys
from itertools import groupby

from stapo_pl.cli.configs import config_dir
from stapo_pl.cli.files import OverrideError
from stapo_pl.cli.grammar import FIT, expand
from stapo_pl.cli.parser import HelpfulParser
from stapo_pl.cli.words import Words
from stapo_pl.conformance import (
    Check,
    Vector,
    check_invariance,
    check_likeness,
    check_silencing,
    find_vector,
    vectors,
)
from stapo_pl.core.errors import ConfigError, TrainingError
from stapo_pl.evaluation.report import markdown
from stapo_pl.objectives import Objective

_TOLERANCE = 1e-9


def main(words: list[str]) -> None:
    """Runs `stapo conformance` with the words of its command line."""
    parser = argparse.ArgumentParser(
        prog="stapo conformance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("objective", nargs="?", help="a class: its import path, or its name here")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of the class")
    parser.add_argument("--like", metavar="KEY", help="what verl computed; its beginning is enough")
    parser.add_argument("--tolerance", type=float, help=f"largest difference ({_TOLERANCE})")
    parser.add_argument("--list", action="store_true", help="show the keys that --like can name")
    args = parser.parse_intermixed_args(words)
    if args.list:
        for kind, found in groupby(vectors(), lambda vector: vector.kind):
            print(f"{kind}:", *(f"  {vector.key}" for vector in found), sep="\n")
        return
    try:
        if args.objective is None:
            raise ConfigError("name a class, as in stapo conformance my_package.MyLoss")
        vector = None if args.like is None else find_vector(args.like)
        objective = make_objective(args.objective, args.settings)
        checks = _checks(objective, vector, args.tolerance)
    except (ConfigError, OverrideError, TrainingError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    if vector is not None:
        print(f"beside verl 0.9.1, {vector.kind}: {vector.key}\n")
    rows = [
        [check.name, f"{check.difference:.2g}", f"{check.tolerance:g}", _verdict(check)]
        for check in checks
    ]
    print(markdown(["check", "largest difference", "allowed", "result"], rows))
    if not all(check.passed for check in checks):
        sys.exit(1)


def make_objective(name: str, settings: list[str]) -> Objective:
    """Returns an objective with the settings that words of the command line give.

    Args:
        name: the import path of a class, or the name of one that comes with the package.
        settings: words such as `clip_high=0.28`.

    Raises:
        ConfigError: the class cannot be imported, is no objective, or refuses its settings.
        OverrideError: a word is no setting.
    """
    config, key = config_dir(), FIT.groups["objective"].key
    parser = HelpfulParser(parser_mode="omegaconf+", allow_abbrev=False)
    parser.add_argument(f"--{key}", type=Objective)
    words = [f"objective.{word.removeprefix('objective.')}" for word in settings]
    flags = [f"--{key}={name}", *expand(words, config)]
    try:
        # The first of the checked words holds the defaults of configs/fit.yaml. Those of the class
        # hold here.
        checked = Words(parser, FIT, config).check(flags)[1:]
        return parser.instantiate(parser.parse_args(checked)).model.objective
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} cannot be made: {error}") from error


def _checks(objective: Objective, vector: Vector | None, tolerance: float | None) -> list[Check]:
    """Returns all checks of an objective, those beside verl first."""
    checks = []
    if vector is not None:
        allowed = vector.tolerance if tolerance is None else tolerance
        checks = check_likeness(objective, vector, allowed)
    allowed = _TOLERANCE if tolerance is None else tolerance
    return [*checks, *check_invariance(objective, allowed), check_silencing(objective)]


def _verdict(check: Check) -> str:
    return "passed" if check.passed else "FAILED"
