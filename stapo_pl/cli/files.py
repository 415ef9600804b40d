"""Finds and reads the YAML files that words of the command line name."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from stapo_pl.cli.hints import nearest
from stapo_pl.evaluation.paper import PAPER_BENCHMARKS


class OverrideError(Exception):
    """A word of the command line is wrong. The message is one line."""


# For some groups, what a word that names no file may have meant.
_NO_FILE = {
    "model": "a model's folder or hub name is model.path=",
    "task": "rows of your own are task.path=",
    "reward": "a function of your own is reward=function reward.path=",
}
# Earlier names of files, and those of the same thing in verl and TRL, and their names here.
_RENAMED = {
    "task=verl_parquet": "file",
    "objective=geo_mean": "gmpo",
    "objective=optimal_token_baseline": "otb",
    "objective=reinforce++": "reinforce_pp",
    "objective=reinforce_plus_plus": "reinforce_pp",
}
# Names in verl and TRL of what no file is, and the words for it.
_WORDS = {
    "objective=bnpo": "objective=grpo objective.aggregation=token-mean",
    "objective=reinforce_plus_plus_baseline": "objective=reinforce_pp "
    "objective.advantage=reinforce_pp_baseline",
    "objective=dppo": "objective=dppo_tv or objective=dppo_kl",
    "objective=vanilla": "objective=grpo objective.aggregation=token-mean objective.dual_clip=3",
}
# Names in verl and TRL of what there is nothing of.
_NOT_HERE = {
    "objective=ppo": "it needs a critic; its clipped loss with advantages of a group is grpo",
    "objective=ppo_clip": "its clipped loss with advantages of a group is grpo",
    "objective=remax": "there is no baseline of a greedy response",
    **{f"objective={name}": "it is not there" for name in ("gdpo", "luspo", "vespo")},
}
# The import path of a class, as opposed to the name or path of a file.
IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\.[A-Z]\w*")


def find_config(folder: Path, name: str) -> Path:
    """Returns the file of a group.

    Args:
        folder: the folder of the group.
        name: the name of a file in it, without `.yaml`, or a path to any YAML file.

    Raises:
        OverrideError: there is no such file.
    """
    word = f"{folder.name}={name}"
    if word in _RENAMED:
        print(f"{word} is called {folder.name}={_RENAMED[word]} here", file=sys.stderr)
        name = _RENAMED[word]
    for path in (folder / f"{name}.yaml", Path(name)):
        if path.is_file() and path.suffix in (".yaml", ".yml"):
            return path
    if word in _WORDS:
        raise OverrideError(
            f"{word}: no such file in {folder}; the words for it are {_WORDS[word]}"
        )
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if word in _NOT_HERE:
        raise OverrideError(f"{word}: {_NOT_HERE[word]}; there are {', '.join(known)}")
    hint = nearest(name, known, whole=True)
    if folder.name in _NO_FILE:
        hint += f"; {_NO_FILE[folder.name]}{name}"
    raise OverrideError(
        f"{folder.name}={name}: no such file in {folder}{hint}; there are {', '.join(known)}"
    )


def read_benchmarks(words: dict[str, str], config_dir: Path) -> dict[str, Any] | None:
    """Returns the settings of the benchmarks that words name, by the name of the benchmark.

    None if they name `null`, which takes back what an experiment named.

    Args:
        words: the values of the words, by the part of the key after `benchmark.`. The names of the
            benchmarks have the empty key.
        config_dir: the folder of the YAML files.

    Raises:
        OverrideError: there is no such file, no name was given, or a value is not YAML.
    """
    if not words.get(""):
        raise OverrideError("benchmark: say which ones, benchmark=all or benchmark=NAME,NAME")
    if words[""] == "null":
        return None
    names = [name.strip() for name in words[""].strip("[]").split(",")]
    names = [n for name in names for n in (PAPER_BENCHMARKS if name == "all" else [name])]
    given = {}
    for key, value in words.items():
        if key == "reward" and IMPORT_PATH.fullmatch(value):
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


def read_shadows(value: str, config_dir: Path) -> dict[str, Any]:
    """Returns the settings of objectives, by name.

    Args:
        value: the names of files of configs/objective, or import paths of classes, with commas.
        config_dir: the folder of the YAML files.

    Raises:
        OverrideError: there is no such file, or two have the same name.
    """
    shadows: dict[str, Any] = {}
    for name in value.strip("[]").split(","):
        if IMPORT_PATH.fullmatch(name := name.strip()):
            key, settings = name.rpartition(".")[2].lower(), {"class_path": name}
        else:
            path = find_config(config_dir / "objective", name)
            key, settings = path.stem, yaml.safe_load(path.read_text())
        if key in shadows:
            raise OverrideError(f"insight.shadows: {key} is named twice; names have to differ")
        shadows[key] = settings
    return shadows


def read_experiment(path: Path, left_out: set[str]) -> list[str]:
    """Returns the settings of an experiment as words.

    Args:
        path: the YAML file of the experiment. In it, `objective: grpo` names a file of a group, and
            `objective.kl_coef: 0.001`, or the same as nested keys, sets a value. `experiment: NAME`
            names another experiment, whose settings hold unless this file sets them.
        left_out: the groups that other words choose. The experiment's settings of these are left
            out.

    Raises:
        OverrideError: the file does not hold keys and values.
    """
    content = yaml.safe_load(path.read_text())
    if not isinstance(content, dict):
        raise OverrideError(f"{path}: expected settings, KEY: VALUE")
    parent = content.pop("experiment", None)
    words = [f"{key}={value}" for key, value in _flat(content)]
    own = [word for word in words if word.partition("=")[0].partition(".")[0] not in left_out]
    if parent is None:
        return own
    return [*read_experiment(find_config(path.parent, parent), left_out), *own]


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value and "class_path" not in value:
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}".lstrip("."))
    else:
        yield key, value if isinstance(value, str) else json.dumps(value)


def read_loggers(names: str, config_dir: Path) -> str:
    """Returns the loggers that `logger=NAME,NAME` names, as a value of `trainer.logger`.

    Raises:
        OverrideError: there is no such file, or a logger is named twice.
    """
    listed = [name.strip() for name in names.strip("[]").split(",")]
    if len({*listed}) < len(listed):
        raise OverrideError(f"logger={names}: one is named twice")
    found = [yaml.safe_load(find_config(config_dir / "logger", n).read_text()) for n in listed]
    return json.dumps(found if len(found) > 1 else found[0])
