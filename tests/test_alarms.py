"""Runs from which nothing can be learned say so."""

from __future__ import annotations

import re

import pytest
from test_fit import fit, make, rig, scalars

from stapo_pl.insight.reasons import first_rollout, why_silent
from stapo_pl.policy.endings import EndTokens

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
        (("reward=function", "reward.path=own_rewards.Obedient"), UNPARSED, []),
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


SHORT = ("trainer.check_val_every_n_epoch=9", "trainer.accumulate_grad_batches=1")
NEVER = "the policy was never updated, as no step had a gradient"


def test_groups_alike_in_five_rollouts_are_said_once(tmp_path, capsys):
    cli = make(tmp_path, "objective=grpo", "data.max_new_tokens=2", "trainer.max_epochs=7", *SHORT)
    rig(cli, lambda n: 0.25)
    fit(cli)
    output = capsys.readouterr().out
    first, found, later = output.partition("warning: 5 rollouts in a row taught nothing")
    assert found and "in a row" not in later and "None is right" in later
    assert first.count("warning: 100.0% of the responses were cut off") == 1
    assert first.count("warning: the reward (Exact) found no answer in 100.0%") == 1
    assert later.count("warning") == 0 and later.count(NEVER) == 1


def test_skipped_rollouts_are_counted_through_a_resume(tmp_path, capsys):
    """Punishments differ, so that not all groups are alike, but dynamic sampling keeps none."""
    words = (
        "objective=dapo", "objective.dynamic_sampling.max_rounds=1",
        "objective.overlong_buffer=0.9", "data.max_new_tokens=80", *SHORT,
    )  # fmt: skip
    outputs = []
    for rollouts, resume in ((3, "null"), (6, "last")):
        cli = make(tmp_path, *words, f"trainer.max_epochs={rollouts}", f"ckpt_path={resume}")
        rig(cli, lambda n: 0.25)
        fit(cli)
        outputs.append(capsys.readouterr().out)
    first, resumed = outputs
    assert all(share < 1 for _, share in scalars(cli)["reward/zero_signal_fraction"])
    assert "in a row" not in first and resumed.count("warning: 5 rollouts in a row") == 1
    assert "\n0 optimizer steps and 6 skipped (no token taught) in " in first
    assert "\n0 optimizer steps and 12 skipped (no token taught) in " in resumed
    assert first.count(NEVER) == resumed.count(NEVER) == 1
