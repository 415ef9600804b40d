"""Shapes the reward of a response by its length."""

from __future__ import annotations


def overlong_punishment(length: int, max_new_tokens: int, buffer: float) -> float:
    """Returns DAPO's soft overlong punishment (2503.14476, equation 13), a number from -1 to 0.

    The buffer is the last part of the longest possible response. The punishment is 0 for a response
    that ends before the buffer. Inside the buffer it falls linearly, to -1 at the limit.

    Args:
        length: the number of tokens of the response.
        max_new_tokens: the number of tokens of the longest possible response.
        buffer: the size of the buffer as a share of `max_new_tokens`. 0 punishes nothing.
    """
    cache = buffer * max_new_tokens
    return min(0.0, (max_new_tokens - cache - length) / cache) if cache else 0.0
