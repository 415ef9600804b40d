"""`objective=stapo objective.tau_p=0.001`: short overrides beside Lightning's flags.

Imports nothing heavy, so that a misspelt word is reported at once.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from stapo_pl.cli.hints import keys_of_files, nearest, suggest
from stapo_pl.evaluation.paper import PAPER_BENCHMARKS


class OverrideError(Exception):
    """A word of the command line is wrong; the message is one line."""


@dataclass
class Group:
    """Where the files of a config folder, and the keys inside it, go in the config tree."""

    file: str
    """The flag that reads a file of the group."""
    key: str
    """The prefix of a key of the group."""


@dataclass
class Grammar:
    """What the words of a script's command line may begin with."""

    groups: dict[str, Group]
    """Of files, in the order in which they are read."""
    keys: tuple[str, ...]
    """Of the config tree."""
    benchmarks: str
    """The key that `benchmark=NAME,NAME` sets."""
    defaults: str
    """The file of them."""
    naming: tuple[str, ...] = ()
    """Groups whose files' names are in the run's."""
    short: dict[str, str] = field(default_factory=dict)
    """Words for a key that stands deeper in the config tree."""

    @property
    def first(self) -> set[str]:
        return {*self.groups, *self.keys, "benchmark"}

    def as_given(self, key: str) -> str:
        """`objective.tau_p` for `model.objective.init_args.selection.init_args.tau_p`."""
        key = key.replace(".init_args", "")
        # The longest first: a reward's keys are also the task's.
        for name, group in sorted(self.groups.items(), key=lambda g: -len(g[1].key)):
            if f"{key}.".startswith(f"{group.key}."):
                return self._in_short(name + key.removeprefix(group.key))
        return key

    def _in_short(self, key: str) -> str:
        for short, full in self.short.items():
            if f"{key}.".startswith(f"{full}."):
                return short + key.removeprefix(full)
        return key

    def in_full(self, key: str) -> str:
        """`objective.selection.tau_p` for `objective.tau_p`."""
        for short, full in self.short.items():
            if f"{key}.".startswith(f"{short}."):
                return full + key.removeprefix(short)
        return key

    def known(self, config_dir: Path) -> set[str]:
        """All keys that the YAMLs set, as they are given."""
        places = {name: group.file for name, group in self.groups.items()}
        found = keys_of_files(config_dir, self.defaults, places)
        return {self.as_given(key) for key in found} | self.first | {"benchmark.samples"}


FIT = Grammar(
    groups={
        "objective": Group("model.objective", "model.objective"),
        "sampler": Group("sampler.engine", "sampler.engine"),
        "task": Group("data", "data.task"),
        "reward": Group("data.task.reward", "data.task.reward"),
        "trainer": Group("trainer", "trainer"),
        "model": Group("model", "model"),
    },
    keys=(
        "seed_everything", "ckpt_path", "run", "data", "config", "print_config", "plan", "help",
    ),
    benchmarks="data.benchmarks",
    defaults="fit.yaml",
    naming=("objective", "task"),
    short={
        f"objective.{key}": f"objective.{section}.{key}"
        for section, keys in {
            "selection": ("tau_p", "quantile", "scope", "statistics", "fraction"),
            "rollout": (
                "advantage", "dynamic_sampling", "overlong_buffer", "overlong_filtering",
            ),
        }.items()
        for key in keys
    },
)  # fmt: skip
EVALUATE = Grammar(
    groups={"sampler": Group("sampler", "sampler"), "reward": Group("reward", "reward")},
    keys=(
        "seed_everything", "model", "decodings", "data", "grading", "verifier", "run", "grade",
        "samples_per_write", "config", "print_config", "help",
    ),
    benchmarks="benchmarks",
    defaults="evaluate.yaml",
)  # fmt: skip
# What else a word of a group may have meant.
_NO_FILE = {
    "model": "a model's folder or hub name is model.path=",
    "task": "rows of your own are task.path=",
    "reward": "a function of your own is reward=function reward.path=",
}
# What files were called before.
_RENAMED = {"task=verl_parquet": "file"}
# A class of the user's own, as opposed to the name or path of a file.
_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\.[A-Z]\w*")
_WORD = re.compile(r"(?P<key>[A-Za-z_][\w.]*\+?)=(?P<value>.*)", re.DOTALL)


def expand(argv: Iterable[str], config_dir: Path, grammar: Grammar = FIT) -> list[str]:
    """Turns `key=value` into the flag that sets it; words that start with `-` pass through.

    A bare group takes the name of a file, `objective=stapo` reads configs/objective/stapo.yaml, or
    the import path of a class, `objective=my_objectives.CISPO`. Both go before values, whatever
    the order of the words, so that they never overwrite one. `benchmark=aime24,amc23` takes names
    of tasks, or `all` of the paper's; `benchmark.key=value` sets a key of all of them.

    Raises:
        OverrideError: a key, group or file that does not exist, or a word that is neither.
    """
    files: list[tuple[int, str]] = []
    values: list[str] = []
    benchmarks: dict[str, str] = {}
    groups = grammar.groups
    after_flag = False
    for word in argv:
        match = _WORD.fullmatch(word)
        if word.startswith("-") or (after_flag and match is None):
            values.append(word)
            after_flag = word.startswith("-") and "=" not in word
            continue
        if after_flag and match["key"].split(".")[0].rstrip("+") not in grammar.first:
            values.append(word)  # the value of a spaced flag that happens to hold a "="
            after_flag = False
            continue
        after_flag = False
        if match is None:
            raise OverrideError(f"{word}: expected key=value or --flag")
        key, value = grammar.in_full(match["key"]), match["value"]
        first, dot, rest = key.partition(".")
        if first == "benchmark":
            benchmarks[rest] = value
        elif first in groups and not dot:
            order = list(groups).index(first)
            if _IMPORT_PATH.fullmatch(value):
                files.append((order, f"--{groups[first].key}={value}"))
                continue
            path = find_config(config_dir / first, value)
            files.append((order, f"--{groups[first].file}={path}"))
            if first in grammar.naming:  # two files may configure one class: stapo and stapo_v1
                files.append((order, f"--run.{first}={path.stem}"))
        elif first in groups and value == "null" and rest.startswith("rollout."):
            # jsonargparse takes this null for a text.
            _, _, name = rest.partition(".")
            values.append(f"--{groups[first].key}.rollout={json.dumps({name: None})}")
        elif first in groups:
            values.append(f"--{groups[first].key}.{rest}={value}")
        elif first in grammar.keys:
            values.append(f"--{key}={value}")
        else:
            raise OverrideError(f"{key}: no such key{suggest(key, grammar.known(config_dir))}")
    if benchmarks:
        chosen = read_benchmarks(benchmarks, config_dir)
        values.insert(0, f"--{grammar.benchmarks}={json.dumps(chosen)}")
    return [word for _, word in sorted(files, key=lambda file: file[0])] + _outside_in(values)


def _outside_in(flags: list[str]) -> list[str]:
    """Flags in their order, but one that sets a whole goes before those that set a part of it.

    So `objective.selection.tau_p=0.1 objective.selection=S2T` is what it seems to be.
    """
    ordered: list[str] = []
    for flag in flags:
        inside = f"{flag.partition('=')[0]}."
        place = next((i for i, other in enumerate(ordered) if other.startswith(inside)), None)
        ordered.insert(len(ordered) if place is None else place, flag)
    return ordered


def read_benchmarks(words: dict[str, str], config_dir: Path) -> dict[str, Any]:
    """The benchmarks that words name, by name.

    Args:
        words: by the key after `benchmark.`; the names themselves have none.

    Raises:
        OverrideError: there is no such file, no name was given, or a value is no YAML.
    """
    if not words.get(""):
        raise OverrideError("benchmark: say which ones, benchmark=all or benchmark=NAME,NAME")
    names = [name.strip() for name in words[""].strip("[]").split(",")]
    names = [n for name in names for n in (PAPER_BENCHMARKS if name == "all" else [name])]
    given = {}
    for key, value in words.items():
        if key == "reward" and _IMPORT_PATH.fullmatch(value):
            given[key] = {"class_path": value}
        elif key == "reward":
            given[key] = yaml.safe_load(find_config(config_dir / key, value).read_text())
        elif "." in key:
            raise OverrideError(
                f"benchmark.{key}: only a task's own keys can be set for all benchmarks; for more, "
                "write a YAML in configs/task"
            )
        elif key:
            try:
                given[key] = yaml.safe_load(value)
            except yaml.YAMLError:
                raise OverrideError(f"benchmark.{key}={value}: no YAML value") from None
    benchmarks = {}
    for name in names:
        path = find_config(config_dir / "task", name)
        data = yaml.safe_load(path.read_text())
        if "task" not in data:
            raise OverrideError(f"benchmark={name}: {path} has no key task")
        samples = given.get("samples", (data.get("validation") or {}).get("samples", 4))
        task = data["task"]
        settings = {key: value for key, value in given.items() if key != "samples"}
        task["init_args"] = (task.get("init_args") or {}) | settings
        if path.stem in benchmarks:
            raise OverrideError(f"benchmark: {path.stem} is named twice; names have to differ")
        benchmarks[path.stem] = {"task": task, "samples": samples}
    return benchmarks


def find_config(folder: Path, name: str) -> Path:
    """The file of a group by its name, or any path to a YAML file.

    Raises:
        OverrideError: there is no such file.
    """
    word = f"{folder.name}={name}"
    if word in _RENAMED:
        print(f"{word} is called {folder.name}={_RENAMED[word]} now", file=sys.stderr)
        name = _RENAMED[word]
    for path in (folder / f"{name}.yaml", Path(name)):
        if path.is_file() and path.suffix in (".yaml", ".yml"):
            return path
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    hint = nearest(name, known)
    if folder.name in _NO_FILE:
        hint += f"; {_NO_FILE[folder.name]}{name}"
    raise OverrideError(
        f"{folder.name}={name}: no such file in {folder}{hint}; there are {', '.join(known)}"
    )
