"""Compares two evaluations of the same problems."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stapo_pl.core.errors import ConfigError
from stapo_pl.evaluation.figures import accuracy, bootstrap_interval
from stapo_pl.evaluation.records import read_problems, read_scores
from stapo_pl.evaluation.report import markdown
from stapo_pl.evaluation.run import BENCHMARK, PROBLEMS


@dataclass
class Difference:
    """How much more often the second of two models is right."""

    first: float
    second: float
    interval: tuple[float, float]
    """The 95 % interval of `second - first`."""


def paired_difference(first_P: Sequence[float], second_P: Sequence[float]) -> Difference:
    """Returns the difference of two accuracies with a paired bootstrap interval over problems.

    A draw takes the same problems of both models, so problems that are hard for both do not widen
    the interval. That is the bootstrap of each problem's difference.

    Args:
        first_P: the accuracy of the first model on each problem.
        second_P: the accuracy of the second model on the same problems.
    """
    first, second = np.asarray(first_P, dtype=float), np.asarray(second_P, dtype=float)
    assert first.shape == second.shape
    interval = bootstrap_interval(second - first)
    return Difference(float(first.mean()), float(second.mean()), interval)


def compare_evaluations(first: Path, second: Path) -> str:
    """Returns a table of the differences of two evaluations on all that both have measured.

    Args:
        first: the folder of an evaluation.
        second: the folder of another one.

    Raises:
        ConfigError: they have nothing in common, or a benchmark that both have is not the same.
    """
    measured = [_measured(folder) for folder in (first, second)]
    rows = []
    for place in sorted(measured[0] & measured[1]):
        files = [folder / place for folder in (first, second)]
        _check_same(*files)
        accuracies = [_accuracies(file) for file in files]
        found = paired_difference(*accuracies)
        low, high = (f"{100 * end:+.2f}" for end in found.interval)
        label = place.stem.removeprefix("scores").removeprefix("-")
        rows.append(
            [
                place.parts[0],
                place.parts[1],
                label or "its own",
                str(len(accuracies[0])),
                f"{100 * found.first:.2f}",
                f"{100 * found.second:.2f}",
                f"{100 * (found.second - found.first):+.2f}",
                f"{low} to {high}",
            ]
        )
    if not rows:
        raise ConfigError(f"{first} and {second} have no benchmark and decoding in common")
    head = ["benchmark", "decoding", "reward", "problems", first.name, second.name]
    if first.name == second.name:
        head[-2:] = str(first), str(second)
    return markdown([*head, "difference", "95 % interval"], rows)


def only_in_one(first: Path, second: Path) -> list[Path]:
    """Returns the files of scores that only one of two evaluations has."""
    return sorted(_measured(first) ^ _measured(second))


def _measured(folder: Path) -> set[Path]:
    """Returns the files with scores, by their places in the folder of an evaluation."""
    return {file.relative_to(folder) for file in folder.glob("*/*/scores*.jsonl")}


def _check_same(first: Path, second: Path) -> None:
    """Checks that two files with scores are about the same problems, judged by the same reward.

    Raises:
        ConfigError: they are not.
    """
    asked = [
        [(problem.messages, problem.answer) for problem in read_problems(file.parent / PROBLEMS)]
        for file in (first, second)
    ]
    where = f"{first.parent} and {second.parent}"
    if len(asked[0]) != len(asked[1]):
        raise ConfigError(
            f"{where} have {len(asked[0])} and {len(asked[1])} problems: only evaluations of the "
            "same problems can be compared"
        )
    pairs = enumerate(zip(*asked, strict=True))
    if different := [number for number, (one, other) in pairs if one != other]:
        raise ConfigError(
            f"{where}: {len(different)} of {len(asked[0])} problems differ, the first is number "
            f"{different[0]}: only evaluations of the same problems can be compared"
        )
    # Scores by another reward have its name. Others are by the reward of the task.
    rewards = [_reward(_settings(file)["task"]) for file in (first, second)]
    if first.stem == "scores" and rewards[0] != rewards[1]:
        raise ConfigError(
            f"{where} were judged by different rewards, {rewards[0]} and {rewards[1]}; judge both "
            "by one: stapo evaluate grade=FOLDER reward=NAME"
        )


def _reward(task: dict[str, Any]) -> Any:
    """Returns the settings of a task's reward. If it has one of its own, the class of the task."""
    return (task.get("init_args") or {}).get("reward") or task["class_path"]


def _settings(file: Path) -> dict[str, Any]:
    settings = file.parent / BENCHMARK
    if not settings.is_file():
        raise ConfigError(f"{settings}: no such file; it is not the folder of an evaluation")
    return json.loads(settings.read_text())


def _accuracies(file: Path) -> list[float]:
    """Returns the share of right samples of each problem."""
    scores, k = read_scores(file), _settings(file)["samples"]
    if len(scores) != k * len(read_problems(file.parent / PROBLEMS)):
        raise ConfigError(
            f"{file} does not hold all scores; stapo evaluate grade={file.parents[2]} makes them"
        )
    return [accuracy(scores[i : i + k]) for i in range(0, len(scores), k)]
