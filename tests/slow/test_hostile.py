"""Responses made to hang, crash or fill a grader: each costs its time limit at most."""

from __future__ import annotations

import time

import pytest

from stapo_pl.core.types import Problem
from stapo_pl.rewards import Math, Response
from stapo_pl.rewards.grading.grader import Grader, Grading
from support.hostile import hostile_responses

pytestmark = pytest.mark.alone

HOSTILE = dict(hostile_responses())
# What can be told apart from them: an honest answer before and after each.
HONEST = r"so \boxed{\frac{8}{2}}"
LIMIT, WORKERS = 1.0, 2


def test_two_workers_judge_all_within_the_limits(tmp_path, capsys):
    reward, problem = Math(), Problem([], "4")
    texts = [text for hostile in HOSTILE.values() for text in (hostile, HONEST)]
    assert len(HOSTILE) >= 200
    late = []
    with Grader([reward], Grading(WORKERS, LIMIT), tmp_path) as grader:
        grader.grade(reward, [Response(HONEST)], [problem])
        start = last = time.monotonic()

        def note(done: int, total: int) -> None:
            nonlocal last
            late.append(time.monotonic() - last)
            last = time.monotonic()

        scores = grader.grade(
            reward, [Response(text) for text in texts], [problem] * len(texts), note
        )
        seconds = time.monotonic() - start
    hostile, honest = scores[::2], scores[1::2]
    assert all(score.correct for score in honest)
    assert not any(score.correct for score in hostile)
    outcomes = [score.outcome for score in hostile]
    lost = {outcome: outcomes.count(outcome) for outcome in ("judged", "timeout", "error")}
    with capsys.disabled():
        print(f"\n{len(hostile)} hostile answers in {seconds:.0f} s: {lost}")
    assert lost["timeout"] > 20 and lost["judged"] > 200
    # While one worker waits for its limit the other may have nothing left to do. What a new worker
    # takes to start is not waited for, as there is one to spare.
    assert max(late) < LIMIT + 1.5
    assert seconds < LIMIT * len(hostile) / WORKERS
