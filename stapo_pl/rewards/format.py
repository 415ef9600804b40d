"""Checks whether a response has the required form."""

from __future__ import annotations

import re

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Problem, Response, Score
from stapo_pl.rewards.base import Reward


class Format(Reward):
    r"""1 if the whole response matches a regular expression, else 0.

    It runs in a worker process, because matching a pattern such as `(a+)+b` may never end.

    Args:
        pattern: a regular expression for `re.fullmatch`, in which `.` also matches the end of a
            line. The default asks for some text that is followed by a `\boxed{...}`.

    Raises:
        ConfigError: the pattern is no regular expression.
    """

    extracts = False

    def __init__(self, pattern: str = r".+\\boxed\{.+\}.*") -> None:
        try:
            self.pattern = re.compile(pattern, re.DOTALL)
        except re.error as error:
            raise ConfigError(
                f"pattern={pattern!r}: {error}; expected a regular expression of Python's re"
            ) from error

    def score(self, response: Response, problem: Problem) -> Score:
        correct = self.pattern.fullmatch(response.text) is not None
        return Score(float(correct), correct, None, "matches" if correct else "does not match")
