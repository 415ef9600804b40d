"""A function that the user wrote, as a reward."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from numbers import Real

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Problem, Response, Score
from stapo_pl.rewards.base import Reward


class Function(Reward):
    """Calls a function as `function(response, problem)` and makes a score of what it returns.

    The function may return a `Score`. It may return a bool, which says whether the response is
    correct; then the reward is 1 or 0. It may return a number, which is the reward; then the
    response is correct if the number is above 0. The function runs in a worker process, because it
    may take any time.

    Args:
        path: the import path of the function, such as `my_rewards.score`.

    Raises:
        ConfigError: the path cannot be imported, or it names no function.
    """

    extracts = False  # the function need not look for an answer
    takes_any_answer = True

    def __init__(self, path: str) -> None:
        self.path = path
        self.prepare()

    def prepare(self) -> None:
        _load(self.path)

    def score(self, response: Response, problem: Problem) -> Score:
        """Raises TypeError if the function returned something else."""
        result = _load(self.path)(response, problem)
        if isinstance(result, Score):
            return result
        if hasattr(result, "item"):  # a number from numpy or torch
            result = result.item()
        if isinstance(result, bool):
            return Score(float(result), result, None, "right" if result else "wrong")
        if isinstance(result, Real):
            reward = float(result)
            return Score(reward, reward > 0, None, f"{self.path} says {reward:g}")
        raise TypeError(
            f"{self.path} returned {type(result).__name__}; expected a Score, a number or a bool"
        )


def _load(path: str) -> Callable[[Response, Problem], Score | float | bool]:
    """Imports the function. This is fast after the first time, so only the path is kept."""
    expected = "expected the import path of a function, such as my_rewards.score"
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise ConfigError(f"reward.path={path} names no module; {expected}")
    try:
        module = import_module(module_name)
    except Exception as error:  # the module of a user may raise anything
        raise ConfigError(
            f"reward.path={path}: importing {module_name} failed with "
            f"{type(error).__name__}: {error}; {expected}"
        ) from error
    if not hasattr(module, name):
        raise ConfigError(f"reward.path={path}: {module_name} has no {name}; {expected}")
    function = getattr(module, name)
    if not callable(function):
        raise ConfigError(f"reward.path={path} is a {type(function).__name__}; {expected}")
    return function
