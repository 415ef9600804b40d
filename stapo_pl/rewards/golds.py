"""Finds problems whose answer no response can match. They teach that every response is wrong."""

from __future__ import annotations

from collections.abc import Sequence

from stapo_pl.core.types import Problem
from stapo_pl.rewards.base import Reward

_SHOWN, _CHARACTERS = 3, 40


def unmatchable(reward: Reward, problems: Sequence[Problem]) -> str:
    """One line about the problems that no response can solve, by this reward.

    It says how many there are and shows the first few of them. Empty if there are none.
    """
    bad = [problem for problem in problems if not reward.can_match(problem)]
    if not bad:
        return ""
    shown = ", ".join(f"{p.place} ({_short(p.answer)})" for p in bad[:_SHOWN])
    more = f", and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    return f"{len(bad)} of {len(problems)} answers can never be matched: {shown}{more}"


def _short(answer: str) -> str:
    return repr(answer if len(answer) <= _CHARACTERS else f"{answer[:_CHARACTERS]}...")
