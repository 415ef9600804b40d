"""A punishment for long responses."""

from __future__ import annotations

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Problem, Response, Score
from stapo_pl.rewards.base import Reward


class Length(Reward):
    """0 up to `free` tokens, from there linearly down to -1 at `limit` tokens and beyond.

    As a term of a `Weighted` reward; alone, only responses within `free` tokens are correct.

    Args:
        free: the tokens that cost nothing.
        limit: the tokens that cost 1.

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
