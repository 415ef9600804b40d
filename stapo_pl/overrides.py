"""`objective=stapo objective.tau_p=0.001`: short overrides beside Lightning's flags.

Imports nothing heavy, so that a misspelt word is reported at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class OverrideError(Exception):
    """A word of the command line is wrong; the message is one line."""


@dataclass
class Group:
    """Where the files of a config folder, and the keys inside it, go in the config tree."""

    file: str
    """The flag that reads a file of the group."""
    key: str
    """The prefix of a key of the group."""


GROUPS = {
    "objective": Group("model.objective", "model.objective"),
    "sampler": Group("sampler.engine", "sampler.engine"),
    "task": Group("data", "data.task"),
    "trainer": Group("trainer", "trainer"),
    "model": Group("model", "model"),
}
_KEYS = (
    "seed_everything", "ckpt_path", "run", "data", "config", "print_config", "plan", "help",
)  # fmt: skip
# A class of the user's own, as opposed to the name or path of a file.
_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\.[A-Z]\w*")
_WORD = re.compile(r"(?P<key>[A-Za-z_][\w.]*\+?)=(?P<value>.*)", re.DOTALL)


def expand(argv: Iterable[str], config_dir: Path) -> list[str]:
    """Turns `key=value` into the flag that sets it; words that start with `-` pass through.

    A bare group takes the name of a file, `objective=stapo` reads configs/objective/stapo.yaml, or
    the import path of a class, `objective=my_objectives.CISPO`. Both go before values, whatever
    the order of the words, so that they never overwrite one.

    Raises:
        OverrideError: a key, group or file that does not exist, or a word that is neither.
    """
    files, values = [], []
    after_flag = False
    for word in argv:
        match = _WORD.fullmatch(word)
        if word.startswith("-") or (after_flag and match is None):
            values.append(word)
            after_flag = word.startswith("-") and "=" not in word
            continue
        if after_flag and match["key"].split(".")[0].rstrip("+") not in {*GROUPS, *_KEYS}:
            values.append(word)  # the value of a spaced flag that happens to hold a "="
            after_flag = False
            continue
        after_flag = False
        if match is None:
            raise OverrideError(f"{word}: expected key=value or --flag")
        key, value = match["key"], match["value"]
        first, dot, rest = key.partition(".")
        if not dot and first in GROUPS and _IMPORT_PATH.fullmatch(value):
            files.append(f"--{GROUPS[first].key}={value}")
        elif not dot and first in GROUPS:
            path = find_config(config_dir / first, value)
            files.append(f"--{GROUPS[first].file}={path}")
            if first == "objective":  # two files may configure one class: stapo and stapo_v1
                files.append(f"--run.objective={path.stem}")
        elif first in GROUPS and dot:
            values.append(f"--{GROUPS[first].key}.{rest}={value}")
        elif first in _KEYS:
            values.append(f"--{key}={value}")
        else:
            raise OverrideError(f"{key}: no such key{nearest(first, {*GROUPS, *_KEYS})}")
    return files + values


def find_config(folder: Path, name: str) -> Path:
    """The file of a group by its name, or any path to a YAML file.

    Raises:
        OverrideError: there is no such file.
    """
    for path in (folder / f"{name}.yaml", Path(name)):
        if path.is_file():
            return path
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    raise OverrideError(
        f"{folder.name}={name}: no such file in {folder}{nearest(name, known)}; "
        f"there are {', '.join(known)}"
    )


def nearest(word: str, known: Iterable[str]) -> str:
    """`, did you mean x?`, or nothing if no known word is near."""
    by_lower = {name.lower(): name for name in sorted(known)}
    matches = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {by_lower[matches[0]]}?" if matches else ""
