"""The command `stapo`. Its first word says what to do.

This file imports nothing heavy, so that a misspelt word is answered at once.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from stapo_pl.cli.configs import config_dir
from stapo_pl.cli.grammar import EVALUATE, FIT, OverrideError, expand
from stapo_pl.cli.hints import nearest
from stapo_pl.cli.screen import first_screen

COMMANDS = {
    "fit": "trains a policy: stapo fit objective=stapo",
    "evaluate": "measures a policy: stapo evaluate model.path=MODEL benchmark=all",
    "export": "makes a model folder of a checkpoint: stapo export last OUT",
    "shadows": "shows what other objectives would have done in a run: stapo shadows RUN grpo",
    "sweep": "trains with all combinations of settings: stapo sweep objective=grpo,stapo",
    "compare": "shows how runs or evaluations differ: stapo compare logs/NAME logs/OTHER",
    "conformance": "checks an objective of yours: stapo conformance my_package.MyLoss --like KEY",
    "inspect": "makes one HTML page of a run's tokens: stapo inspect logs/NAME",
}
_GRAMMARS = {"fit": FIT, "evaluate": EVALUATE}


def main() -> None:
    """Runs the command that the first word of the command line names."""
    command, *words = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help", "help"):
        print("stapo COMMAND WORDS; each command says more with --help\n")
        print("\n".join(f"  {name:<11} {text}" for name, text in COMMANDS.items()))
    elif command not in COMMANDS:
        known = f"there are {', '.join(COMMANDS)}"
        print(
            f"error: {command}: no such command{nearest(command, COMMANDS)}; {known}",
            file=sys.stderr,
        )
        sys.exit(2)
    else:
        run(command, words)


def run(command: str, words: list[str]) -> None:
    """Runs a command with its words. The scripts in `scripts/` call this too.

    Args:
        command: the name of the command.
        words: the other words of the command line.
    """
    if command in _GRAMMARS:
        grammar, configs = _GRAMMARS[command], config_dir()
        if (text := first_screen(words, configs, grammar)) is not None:
            print(text)
            return
        try:
            words = expand(words, configs, grammar)
        except OverrideError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
    folder = str(Path.cwd())  # users keep their own objectives, rewards and tasks here
    if folder not in sys.path:
        sys.path.append(folder)
    # This import takes seconds, so it comes after the check of the words.
    module = importlib.import_module(f"stapo_pl.cli.{command}")
    module.main(words, *([config_dir()] if command in _GRAMMARS else []))
