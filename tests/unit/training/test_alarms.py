"""Runs from which nothing can be learned say so."""

from __future__ import annotations

import re

import pytest

from stapo_pl.insight.reasons import first_rollout, why_silent
from stapo_pl.policy.endings import EndTokens
from support.fitting import make

HEALTHY = {
    "reward/mean": 0.5, "reward/std": 0.5, "reward/accuracy": 0.5, "reward/timeouts": 0.0,
    "reward/errors": 0.0, "reward/unparsed_fraction": 0.5, "rollout/samples": 200.0,
    "rollout/truncated_fraction": 0.5,
}  # fmt: skip
UNPARSED = {"reward/unparsed_fraction": 1.0, "reward/accuracy": 0.0}


@pytest.mark.parametrize(
    "words, measured, expected",
    [
        ((), {}, []),
        ((), {"rollout/truncated_fraction": 0.9, "reward/unparsed_fraction": 0.9}, []),
        (
            ("data.max_new_tokens=7",),
            {"rollout/truncated_fraction": 1.0},
            ["100.0% of the responses were cut off at data.max_new_tokens=7"],
        ),
        # One that ended by accident hides nothing.
        ((), {"rollout/truncated_fraction": 199 / 200}, ["99.5% of the responses were cut off"]),
        ((), UNPARSED, ["the reward (Exact) found no answer in 100.0% of the responses"]),
        (("reward=weighted",), UNPARSED, ["the reward (Weighted) found no answer"]),
        # These look for no answer.
        (("reward=format",), UNPARSED, []),
        (("reward=length",), UNPARSED, []),
        (("reward=function", "reward.path=support.own_rewards.Obedient"), UNPARSED, []),
        (
            ("data.grading.time_limit=0.5",),
            # What was not judged has no answer either, which is no second fault.
            UNPARSED | {"reward/timeouts": 190.0, "reward/errors": 10.0},
            ["100.0% of the responses could not be judged: 190 took over data.grading.time_limit="],
        ),
    ],
)
def test_a_first_rollout_without_signal_is_explained(tmp_path, words, measured, expected):
    cli = make(tmp_path, *words)
    cli.datamodule.end_tokens = EndTokens((504,), ("<|end|>",))
    lines = first_rollout(HEALTHY | measured, cli.datamodule)
    assert len(lines) == len(expected) and not any("\n" in line for line in lines)
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize(
    "words, measured, cause",
    [
        ((), {"reward/accuracy": 1.0, "reward/mean": 1.0, "reward/std": 0.0}, "too easy"),
        ((), UNPARSED, "too hard .* does not find"),
        ((), {"reward/std": 0.0, "reward/mean": 0.2}, "all get a reward of 0.2"),
        ((), {}, "all or none to each prompt"),
        (
            ("objective.overlong_filtering=true",),
            UNPARSED | {"rollout/truncated_fraction": 1.0},
            "overlong_filtering masks",
        ),
    ],
)
def test_the_likely_cause_of_silence(tmp_path, words, measured, cause):
    cli = make(tmp_path, *words)
    assert re.search(
        cause, why_silent(HEALTHY | measured, cli.datamodule, cli.model.objective.rollout)
    )
