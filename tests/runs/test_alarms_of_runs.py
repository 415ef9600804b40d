"""Whole runs from which nothing can be learned say so."""

from __future__ import annotations

from support.fitting import fit, make, rig, scalars

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
