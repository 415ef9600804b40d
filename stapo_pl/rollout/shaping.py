"""How the reward of a response is shaped by its length."""

from __future__ import annotations


def overlong_punishment(length: int, max_new_tokens: int, buffer: float) -> float:
    """DAPO's soft overlong punishment (2503.14476, equation 13).

    It is 0 up to the buffer, and falls from there linearly to -1 at the limit.

    Args:
        length: tokens of the response.
        max_new_tokens: tokens of the longest response.
        buffer: share of `max_new_tokens` that the buffer takes; 0 punishes nothing.
    """
    cache = buffer * max_new_tokens
    return min(0.0, (max_new_tokens - cache - length) / cache) if cache else 0.0
