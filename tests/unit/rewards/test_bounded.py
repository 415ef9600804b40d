"""Rewards that run in the training process take a moment, whatever the text."""

from __future__ import annotations

import time

import pytest

from stapo_pl.core.types import Problem
from stapo_pl.rewards import GSM8K, DAPORule, Exact, Response
from support.hostile import hostile_responses

HOSTILE = dict(hostile_responses())


@pytest.mark.parametrize("reward", [Exact(), DAPORule(), GSM8K()], ids=lambda r: type(r).__name__)
def test_bounded_rewards_are_bounded(reward):
    """They run in the training process, so no text may take them more than a moment."""
    for name, text in HOSTILE.items():
        start = time.process_time()
        score = reward.score(Response(text), Problem([], "4"))
        assert time.process_time() - start < 2, name
        assert not score.correct, name
