"""Puzzles that reasoning-gym generates and judges."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from itertools import islice
from typing import Any

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.seeding import seed_for
from stapo_pl.core.types import Problem, ProblemSet
from stapo_pl.rewards import ReasoningGymScore, Reward
from stapo_pl.tasks.base import Task

# This task mixes other tasks, and no task judges its answers. `names` can mix tasks instead.
_NOT_ALONE = "composite"


class ReasoningGym(Task):
    r"""Tasks of reasoning-gym (2505.24760), by their names there.

    If there are several, each gives a problem in turn. Training and validation use unrelated seeds.
    A training question that is also in the validation set is left out and counts as filtered.

    Args:
        names: names of the tasks.
        train_size: number of training questions that are drawn.
        validation_size: number of validation problems.
        seed: seed of the generators.
        config: settings of the generators, by the name of the task.
        template: the text of the prompt, with `{problem}` in it.
        reward: judges the responses. None means the task's own judgement.

    Raises:
        ConfigError: reasoning-gym is missing, or has no such task or setting.
    """

    name = "reasoning_gym"

    def __init__(
        self,
        names: list[str],
        train_size: int = 16384,
        validation_size: int = 256,
        seed: int = 0,
        config: dict[str, dict[str, Any]] | None = None,
        template: str = "{problem}\n\nPut your final answer within \\boxed{}.",
        reward: Reward | None = None,
    ) -> None:
        for name, value in (("train_size", train_size), ("validation_size", validation_size)):
            if value < 1:
                raise ConfigError(f"task.{name} must be at least 1, got {value}")
        if "{problem}" not in template:
            raise ConfigError(f"task.template={template}: expected {{problem}} in it")
        self.names, self.config, self.template = names, config or {}, template
        self.train_size, self.validation_size, self.seed = train_size, validation_size, seed
        self.reward = reward or ReasoningGymScore()
        _check_names(names, self.config)
        next(self._draw("training"))

    def train_problems(self) -> ProblemSet:
        held_out = {problem.key for problem in self.validation_problems().problems}
        drawn = islice(self._draw("training"), self.train_size)
        problems = [problem for problem in drawn if problem.key not in held_out]
        return ProblemSet(problems, filtered=self.train_size - len(problems))

    def validation_problems(self) -> ProblemSet:
        return ProblemSet(list(islice(self._draw("validation"), self.validation_size)))

    def _draw(self, purpose: str) -> Iterator[Problem]:
        """Problems of the tasks in turn."""
        # numpy's generators take 31 bits. The seed is a hash because entry i of seed s is entry 0
        # of seed s + i, so that neighbouring seeds would give the same problems.
        seed = seed_for(self.seed, "reasoning_gym", purpose) % 2**31
        size = max(self.train_size, self.validation_size)
        generators = [(name, _generator(name, self.config, size, seed)) for name in self.names]
        for number in range(size):
            for name, generator in generators:
                entry = generator[number]
                text = self.template.replace("{problem}", entry["question"])
                yield Problem(
                    [{"role": "user", "content": text}],
                    entry["answer"] or "",  # a task with many right answers gives none
                    name,
                    entry["metadata"],
                    f"{name}, entry {number} of seed {seed}",
                )


def _check_names(names: list[str], config: dict[str, dict[str, Any]]) -> None:
    try:
        from reasoning_gym.factory import DATASETS  # slow to import, and needed only here
    except ImportError as error:
        raise ConfigError(
            'task=reasoning_gym needs reasoning-gym: pip install -e ".[gym]"'
        ) from error
    if not names:
        raise ConfigError("task.names is empty: expected names of reasoning-gym's tasks")
    known = sorted(set(DATASETS) - {_NOT_ALONE})
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            hint = (
                f"; the nearest are {', '.join(near)}" if near else f"; it has {', '.join(known)}"
            )
            raise ConfigError(f"task.names: reasoning-gym has no task {name}{hint}")
    for name in config:
        if name not in names:
            raise ConfigError(f"task.config.{name}: not in task.names, {', '.join(names)}")


def _generator(name: str, config: dict[str, dict[str, Any]], size: int, seed: int) -> Any:
    import reasoning_gym

    settings = config.get(name, {})
    try:
        return reasoning_gym.create_dataset(name, size=size, seed=seed, **settings)
    except (AssertionError, TypeError, ValueError) as error:  # its ways to refuse a setting
        raise ConfigError(f"task.config.{name}={settings}: {error}") from error
