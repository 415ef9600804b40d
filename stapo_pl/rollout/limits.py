"""Checks of lengths and of the decoding. They run before any work begins."""

from __future__ import annotations

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Decoding


def check_limits(max_prompt_tokens: int, decoding: Decoding) -> None:
    """Checks the settings that rollouts are sampled with.

    Args:
        max_prompt_tokens: the largest number of tokens of a prompt.
        decoding: the distribution that completions are drawn from.

    Raises:
        ConfigError: a length, the temperature, top-p or top-k is out of range.
    """
    for name, value in (
        ("max_prompt_tokens", max_prompt_tokens),
        ("max_new_tokens", decoding.max_new_tokens),
    ):
        if value < 1:
            raise ConfigError(f"data.{name} must be at least 1, got {value}")
    if not decoding.temperature > 0:
        raise ConfigError(
            "data.temperature must be greater than 0 (a greedy rollout explores nothing), "
            f"got {decoding.temperature}"
        )
    if not 0 < decoding.top_p <= 1 or decoding.top_k < 0:
        raise ConfigError(
            "data needs 0 < top_p <= 1 and top_k >= 0, got "
            f"top_p={decoding.top_p}, top_k={decoding.top_k}"
        )


def check_room(max_prompt_tokens: int, max_new_tokens: int, positions: int) -> None:
    """Checks that the model can read the longest prompt together with the longest response.

    Args:
        max_prompt_tokens: the largest number of tokens of a prompt.
        max_new_tokens: the largest number of tokens of a response, also in validation.
        positions: the largest number of tokens of a sequence that the model can read.

    Raises:
        ConfigError: prompt and response together can be longer than `positions`.
    """
    room = positions - max_prompt_tokens - max_new_tokens
    if room < 0:
        raise ConfigError(
            f"data.max_prompt_tokens={max_prompt_tokens} plus data.max_new_tokens="
            f"{max_new_tokens} exceeds the {positions} positions of the model by {-room}"
        )
