"""A function of the user's as a reward."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from numbers import Real

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Problem, Response, Score
from stapo_pl.rewards.base import Reward


class Function(Reward):
    """What a function says, called as `function(response, problem)`.

    It returns a `Score`; or whether the response is correct, which is a reward of 1 or 0; or a
    number, which is the reward, and the response is correct if it is above 0. Not `bounded`:
    it runs where it can be stopped.

    Args:
        path: where it is imported from, such as `my_rewards.score`.

    Raises:
        ConfigError: the path cannot be imported, or is no function.
    """

    extracts = False  # a number or a bool says nothing of an answer
    takes_any_answer = True

    def __init__(self, path: str) -> None:
        self.path = path
        self.prepare()

    def prepare(self) -> None:
        _load(self.path)

    def score(self, response: Response, problem: Problem) -> Score:
        """Raises TypeError if the function returned none of the above."""
        result = _load(self.path)(response, problem)
        if isinstance(result, Score):
            return result
        if hasattr(result, "item"):  # a number of numpy's or torch's
            result = result.item()
        if isinstance(result, bool):
            return Score(float(result), result, None, "right" if result else "wrong")
        if isinstance(result, Real):
            return Score(float(result), result > 0, None, f"{self.path} says {float(result):g}")
        raise TypeError(
            f"{self.path} returned {type(result).__name__}; expected a Score, a number or a bool"
        )


def _load(path: str) -> Callable[[Response, Problem], Score | float | bool]:
    """Cheap after the first time, so that nothing but the path need be kept and pickled."""
    expected = "expected the import path of a function, such as my_rewards.score"
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise ConfigError(f"reward.path={path} names no module; {expected}")
    try:
        module = import_module(module_name)
    except Exception as error:  # a user's module may fail in any way
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
