"""The words of a sweep: which runs they ask for, and the settings of each."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stapo_pl.cli.configs import config_dir
from stapo_pl.cli.fit import StapoCLI
from stapo_pl.cli.grammar import OverrideError, expand
from stapo_pl.cli.recorded import comparable
from stapo_pl.core.errors import ConfigError


@dataclass
class Combination:
    """One run of a sweep. A word with several values is an *axis*."""

    chosen: dict[str, str]
    """The value of each axis by its key."""
    words: list[str]
    """All words of the run."""
    logs: Path
    """The folder of all runs."""
    settings: dict[str, Any]
    """The comparable settings that the words resolve to."""

    @property
    def name(self) -> str:
        """The words that this run has and others have not."""
        return " ".join(f"{key}={value}" for key, value in self.chosen.items()) or "the run"


def values_of(word: str) -> list[str]:
    """Returns the values that a word names. A comma inside of brackets or braces separates none.

    Raises:
        ConfigError: there is nothing before or after a comma.

    Example:
        >>> values_of("data.stop_token_ids=[1,2],[]")
        ['[1,2]', '[]']
    """
    depth, values = 0, [""]
    for character in word.partition("=")[2]:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            values.append("")
        else:
            values[-1] += character
    if len(values) > 1 and not all(values):
        raise ConfigError(f"{word}: a value is missing before or after a comma")
    return values


def combinations(words: Sequence[str], logs: str) -> list[Combination]:
    """Returns all combinations of the values that words name.

    Args:
        words: the words of the command line.
        logs: the folder of all runs, unless a word sets it.

    Raises:
        ConfigError: a word is wrong, or two combinations are the same run.
    """
    axes = [
        [f"{word.partition('=')[0]}={value}" for value in values]
        for word in words
        if len(values := values_of(word)) > 1
    ]
    fixed = [word for word in words if len(values_of(word)) == 1]
    found: list[Combination] = []
    for chosen in itertools.product(*axes):
        run_words = [f"run.logs={logs}", *fixed, *chosen]
        settings = resolved(run_words)
        pairs = dict(word.split("=", 1) for word in chosen)
        folder = Path(settings["run"]["logs"])
        new = Combination(pairs, run_words, folder, comparable(settings))
        if same := [other.name for other in found if other.settings == new.settings]:
            raise ConfigError(f"{same[0]} and {new.name} have the same settings")
        found.append(new)
    return found


def resolved(words: list[str]) -> dict[str, Any]:
    """Returns all settings of a run with these words.

    Raises:
        ConfigError: they are wrong. What the parser itself refuses ends the process with code 2.
    """
    text = io.StringIO()
    try:
        with redirect_stdout(text):
            StapoCLI([*expand(words, config_dir()), "--print_config"], config_dir())
    except OverrideError as error:
        raise ConfigError(str(error)) from None
    except SystemExit as end:  # the parser exits with 0 after printing, and otherwise refuses
        if end.code:
            raise
    return yaml.safe_load(text.getvalue())
