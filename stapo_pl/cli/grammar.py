"""Turns short words such as `objective=stapo objective.tau_p=0.001` into Lightning's flags.

The config tree is the tree of all settings, in which Lightning's flags name a place. A group is a
folder of `configs/`, whose files choose a part of this tree. This file imports nothing heavy, so
that a misspelt word is reported at once.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from stapo_pl.cli.files import (
    IMPORT_PATH,
    OverrideError,
    find_config,
    read_benchmarks,
    read_experiment,
    read_loggers,
    read_shadows,
)
from stapo_pl.cli.hints import keys_of_files, suggest
from stapo_pl.cli.units import Unit, leaves, place_of, units


@dataclass
class Group:
    """The place of a group in the config tree."""

    file: str
    """The flag that reads a file of the group."""
    key: str
    """The place in the config tree that the keys of the group are in."""
    is_class: bool = True
    """Whether a file of the group chooses a class. Then it replaces all settings of another file,
    and otherwise the two are merged."""


@dataclass
class Grammar:
    """The words that a command understands."""

    groups: dict[str, Group]
    """The groups, in the order in which their files are read."""
    keys: tuple[str, ...]
    """The keys at the top of the config tree that words may begin with."""
    benchmarks: str
    """The key of the config tree that `benchmark=NAME,NAME` sets."""
    defaults: str
    """The name of the YAML file with the defaults of all settings."""
    naming: tuple[str, ...] = ()
    """The groups whose files give a run its name."""
    short: dict[str, str] = field(default_factory=dict)
    """Short keys, and the full key that each stands for."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Keys that have been renamed, and their names now."""
    takes_experiments: bool = False
    """Whether the command understands `experiment=NAME`."""

    @property
    def first(self) -> set[str]:
        """The first parts of all keys that words may have."""
        experiment = {"experiment"} if self.takes_experiments else set()
        return {*self.groups, *self.keys, "benchmark", *experiment}

    def as_given(self, key: str) -> str:
        """Returns the shortest word for a key of the config tree.

        This is `objective.tau_p` for `model.objective.init_args.selection.init_args.tau_p`.
        """
        key = _replaced(key.replace(".init_args", ""), {v: k for k, v in self.short.items()})
        # The group with the longest key comes first: keys of a reward also belong to a task.
        for name, group in sorted(self.groups.items(), key=lambda g: -len(g[1].key)):
            if f"{key}.".startswith(f"{group.key}."):
                return name + key.removeprefix(group.key)
        return key

    def in_full(self, key: str) -> str:
        """Returns the full key of a short one.

        This is `model.objective.selection.tau_p` for `model.objective.tau_p`.
        """
        return _replaced(key, self.short)

    def now_called(self, key: str) -> str:
        """Returns the present name of a key, which is the key itself unless it was renamed."""
        return _replaced(key, self.renamed)

    def known(self, config_dir: Path) -> set[str]:
        """Returns all keys that the YAML files set, in the short form in which people give them."""
        places = {name: group.file for name, group in self.groups.items()}
        found = keys_of_files(config_dir, self.defaults, places)
        return {self.as_given(key) for key in found} | self.first | {"benchmark.samples"}


def _replaced(key: str, names: dict[str, str]) -> str:
    """Replaces the beginning of a key, if it is one of the names."""
    for name, other in names.items():
        if f"{key}.".startswith(f"{name}."):
            return other + key.removeprefix(name)
    return key


FIT = Grammar(
    groups={
        "objective": Group("model.objective", "model.objective"),
        "sampler": Group("sampler.engine", "sampler.engine"),
        "task": Group("data", "data.task"),
        "reward": Group("data.task.reward", "data.task.reward"),
        "trainer": Group("trainer", "trainer", is_class=False),
        "model": Group("model", "model", is_class=False),
        "logger": Group("trainer.logger", "trainer.logger"),
        "recorder": Group("insight.recorder", "insight.recorder", is_class=False),
    },
    keys=(
        "seed_everything", "ckpt_path", "run", "insight", "estimate", "data", "config",
        "print_config", "plan", "help",
    ),
    benchmarks="data.benchmarks",
    defaults="fit.yaml",
    naming=("objective", "task"),
    short={
        f"model.objective.{key}": f"model.objective.{place}.{key}"
        for place, keys in {
            "selection": ("tau_p", "sign", "quantile", "scope", "statistics", "fraction"),
            "rollout": (
                "advantage", "dynamic_sampling", "overlong_buffer", "overlong_filtering",
            ),
        }.items()
        for key in keys
    },
    takes_experiments=True,
)  # fmt: skip
EVALUATE = Grammar(
    groups={
        "sampler": Group("sampler.engine", "sampler.engine"),
        "reward": Group("reward", "reward"),
    },
    keys=(
        "seed_everything", "model", "decodings", "data", "verifier", "run", "grade",
        "samples_per_write", "config", "print_config", "help",
    ),
    benchmarks="benchmarks",
    defaults="evaluate.yaml",
    renamed={"grading": "data.grading"},
)  # fmt: skip
_WORD = re.compile(r"(?P<key>[A-Za-z_][\w.]*\+?)=(?P<value>.*)", re.DOTALL)


def expand(argv: Iterable[str], config_dir: Path, grammar: Grammar = FIT) -> list[str]:
    """Turns each word `key=value` into the flag that sets it. Flags are kept as they are.

    - `objective=stapo` reads configs/objective/stapo.yaml, and `objective=my_objectives.CISPO`
      names a class. Such words are applied before all values, so that they never overwrite one.
    - `logger=csv,wandb` chooses several loggers.
    - `benchmark=aime24,amc23` names benchmarks, and `all` stands for those of the paper.
      `benchmark.key=value` sets a key of all of them.
    - `insight.shadows=grpo,entropy20` names files of configs/objective.
    - `experiment=NAME` stands for the words of configs/experiment/NAME.yaml. They are applied
      before all others.

    Raises:
        OverrideError: a key, group or file does not exist, or a word is neither `key=value` nor a
            flag.
    """
    files: list[tuple[int, str]] = []
    values: list[str] = []
    benchmarks: dict[str, str] = {}
    groups = grammar.groups
    after_flag = False
    for word in _with_experiment([*argv], config_dir, grammar):
        match = _WORD.fullmatch(word)
        if word.startswith("-") or (after_flag and match is None):
            values.append(word)
            after_flag = word.startswith("-") and "=" not in word
            continue
        if after_flag and match["key"].split(".")[0].rstrip("+") not in grammar.first:
            values.append(word)  # this is the value of the flag before, and it contains a "="
            after_flag = False
            continue
        after_flag = False
        if match is None:
            raise OverrideError(f"{word}: expected key=value or --flag")
        key, value = match["key"], match["value"]
        first, dot, rest = key.partition(".")
        if first == "benchmark":
            benchmarks[rest] = value
        elif first in groups and not dot:
            order, group = list(groups).index(first), groups[first]
            if IMPORT_PATH.fullmatch(value):
                files.append((order, f"--{group.key}={value}"))
            elif first == "logger":
                files.append((order, f"--{group.key}={read_loggers(value, config_dir)}"))
            else:
                path = find_config(config_dir / first, value)
                files.append((order, f"--{group.file}={path}"))
                # Two files may set the same class, such as stapo and stapo_v1, so the name of the
                # file goes into the name of the run.
                if first in grammar.naming:
                    files.append((order, f"--run.{first}={path.stem}"))
        elif first in groups:
            values.append(f"--{groups[first].key}.{rest}={value}")
        elif key == "insight.shadows" and not value.startswith(("{", "null")):
            values.append(f"--{key}={json.dumps(read_shadows(value, config_dir))}")
        elif first in grammar.keys:
            values.append(f"--{key}={value}")
        elif (name := grammar.now_called(key)) != key:
            raise OverrideError(f"{key}: it is called {name} now")
        else:
            raise OverrideError(f"{key}: no such key{suggest(key, grammar.known(config_dir))}")
    if benchmarks:
        chosen = read_benchmarks(benchmarks, config_dir)
        values.insert(0, f"--{grammar.benchmarks}={json.dumps(chosen)}")
    ordered = [word for _, word in sorted(files, key=lambda file: file[0])]
    return ordered + _outside_in(values, grammar)


def _with_experiment(words: list[str], config_dir: Path, grammar: Grammar) -> list[str]:
    """Replaces the word `experiment=NAME` by the words of the experiment, which come first.

    If another word chooses a file or class of a group, the experiment's settings of that group are
    left out. A line says so if they are more than the choice.
    """
    start = "experiment="
    named = [word for word in words if word.startswith(start)]
    if not named or not grammar.takes_experiments:
        return words
    name = named[-1].removeprefix(start)
    others = [word for word in words if not word.startswith(start)]
    chosen = {word.partition("=")[0] for word in others}
    left_out = {name for name, group in grammar.groups.items() if group.is_class} & chosen
    path = find_config(config_dir / "experiment", name)
    kept = read_experiment(path, left_out)
    gone = [word for word in read_experiment(path, set()) if word not in kept]
    if values := [word for word in gone if "." in word.partition("=")[0]]:
        _say(f"experiment  without its {', '.join(values)}, as other words choose that group")
    return [*kept, f"run.experiment={name}", *others]


def _say(line: str) -> None:
    """Prints a line, unless this is another rank than the first."""
    if os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0":
        print(line, file=sys.stderr)


def _outside_in(words: list[str], grammar: Grammar) -> list[str]:
    """Orders flags so that one that sets a whole comes before those that set a part of it.

    Otherwise `objective.selection=S2T` in `objective.tau_p=0.1 objective.selection=S2T` would set
    tau_p back to its default. If a whole sets the same key as an earlier flag, the earlier flag is
    left out, because the last word on a key holds: `model.lora.rank=4 model.lora={rank: 8}` is rank
    8, and `model.lora.rank=4 model.lora=null` has no adapters.
    """

    def place(unit: Unit) -> str:
        return grammar.in_full(place_of(unit.key))

    ordered: list[Unit] = []
    for unit in units(words):
        inside = f"{unit.key}."
        if unit.value == "null":
            ordered = [other for other in ordered if not place(other).startswith(inside)]
        elif (unit.value or "").startswith("{") and not unit.key.endswith("+"):
            set_here = {grammar.in_full(place_of(leaf)) for leaf, _ in leaves(unit.key, unit.value)}
            ordered = [other for other in ordered if place(other) not in set_here]
        parts = (i for i, other in enumerate(ordered) if place(other).startswith(inside))
        ordered.insert(next(parts, len(ordered)), unit)
    return [word for unit in ordered for word in unit.words]
