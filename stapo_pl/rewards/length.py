"""A punishment for long responses."""

from __future__ import annotations

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Problem, Response, Score
from stapo_pl.rewards.base import Reward


class Length(Reward):
    """0 for responses of up to `free` tokens; then it falls linearly to -1 at `limit` tokens.

    It is meant as a term of a `Weighted` reward. By itself it calls a response correct if it has
    at most `free` tokens.

    Args:
        free: the largest number of tokens that is not punished.
        limit: the number of tokens from which the punishment is 1.

    Raises:
        ConfigError: not 0 <= free < limit.
    """

    bounded, extracts = True, False
    worst, best = -1.0, 0.0

    def __init__(self, free: int, limit: int) -> None:
        if not 0 <= free < limit:
            raise ConfigError(f"free={free}, limit={limit}: expected 0 <= free < limit")
        self.free = free
        self.limit = limit

    def score(self, response: Response, problem: Problem) -> Score:
        excess = max(0, response.tokens - self.free)
        reward = -min(1.0, excess / (self.limit - self.free))
        return Score(reward, excess == 0, None, f"{response.tokens} tokens")
