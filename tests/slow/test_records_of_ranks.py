"""Records of several ranks are those of one, and a run that is killed leaves whole ones."""

from __future__ import annotations

import math
import random
import time
from pathlib import Path

import numpy as np
import pytest

from stapo_pl.insight import records
from stapo_pl.insight.rows import joined
from support.commands import Command, run_ranks
from support.fitting import FEW_PROBLEMS, SMALL, read_scalars
from support.ranks import recorded, run

pytestmark = pytest.mark.slow

WORDS = ("objective.tau_p=0.1", "data.prune=false", "recorder.tokens=all", "trainer.max_epochs=2")
FLOATS = (
    "advantage", "weight", "logprob", "entropy", "collision", "slope", "selection_logprob",
    "old_logprob", "sampler_logprob",
)  # fmt: skip


def table(folder: Path) -> dict[str, np.ndarray]:
    """All rows of a run, ordered by what they are about."""
    columns = joined([records.read(file)[0] for file in records.files_of(folder, "tokens")])
    keys = [columns[name] for name in ("place", "sample", "prompt", "step")]
    order = np.lexsort(keys)
    return {
        name: column[order] for name, column in columns.items() if isinstance(column, np.ndarray)
    }


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_records_of_two_ranks_are_those_of_one(tmp_path, strategy):
    one, words = recorded(tmp_path, "objective=stapo", *WORDS, kl_coef=0)
    two = run(tmp_path, 2, *words, f"trainer={strategy}")
    expected, found = table(one), table(two)
    assert len({f.name[-12:] for f in records.files_of(two, "tokens")}) == 2
    for name in ("step", "prompt", "sample", "place", "token", "kept"):
        assert np.array_equal(found[name], expected[name]), name
    for name in FLOATS:
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(
            found[name] / scale, expected[name] / scale, rtol=0, atol=1e-5, err_msg=name
        )
    assert not found["kept"].all()
    curves, ours = (
        {n: c for n, c in read_scalars(f).items() if n.startswith(("tokens/", "policy/entropy"))}
        for f in (one, two)
    )
    assert len(curves) > 30 and curves.keys() == ours.keys()
    for name, curve in curves.items():
        values = [pytest.approx(value, rel=1e-4, abs=1e-6) for _, value in curve]
        assert [value for _, value in ours[name]] == values, name
    texts = [
        sorted(
            (row["prompt"], row["sample"], row["text"])
            for file in records.files_of(folder, "completions")
            for row in records.read_completions(file)
        )
        for folder in (one, two)
    ]
    assert texts[0] == texts[1] and len(texts[0]) == 64


def test_ranks_agree_that_nothing_can_be_shown(tmp_path):
    """One rank alone has tokens whose loss looks at the entropy: the others are cut off."""
    words = (
        "objective=grpo", "objective.entropy_coef=0.01", "objective.overlong_filtering=true",
        "data.max_new_tokens=60", "data.prompts_per_mini_batch=2", "data.group_size=2",
        "trainer.accumulate_grad_batches=1", "trainer=ddp", "trainer.devices=2",
        "data.prune=false", "trainer.max_epochs=3",
    )  # fmt: skip
    result = run_ranks("fit", 2, *SMALL, *FEW_PROBLEMS, *words, f"run.logs={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert "no shares of tokens are shown" in result.stderr


def test_a_run_that_is_killed_anywhere_leaves_the_records_of_one_that_is_not(tmp_path):
    words = [
        *SMALL, *FEW_PROBLEMS, "objective.tau_p=0.1", "recorder.tokens=all", "run.name=run",
        "trainer.max_epochs=40", "run.checkpoint_every=3", "trainer.check_val_every_n_epoch=99",
    ]  # fmt: skip
    assert Command("fit", *words, f"run.logs={tmp_path / 'whole'}").wait().returncode == 0
    (whole,) = (tmp_path / "whole" / "run").iterdir()
    words.append(f"run.logs={tmp_path / 'killed'}")
    draw, root, kills = random.Random(0), tmp_path / "killed" / "run", 0
    while kills < 10:
        started = Command("fit", *words, *(["ckpt_path=last"] if any(root.rglob("*.ckpt")) else []))
        folder = root / "version_0"
        before = count(folder)
        # Without a checkpoint, the next start would be a run in another folder.
        while (
            count(folder) <= before or not any(root.rglob("*.ckpt"))
        ) and started.returncode is None:
            time.sleep(0.02)
        time.sleep(draw.random())
        if started.returncode is not None:
            break
        started.kill()
        started.wait()
        kills += 1
        for file in records.files_of(folder, "tokens"):
            columns, facts = records.read(file)
            assert facts.tokens == "all" and len(columns["step"])
    last = Command("fit", *words, "ckpt_path=last").wait()
    assert last.returncode == 0, last.stderr
    assert kills == 10
    (killed,) = root.iterdir()
    for kind in ("tokens", "completions"):
        ours, theirs = (
            {file.name: file.read_bytes() for file in records.files_of(folder, kind)}
            for folder in (killed, whole)
        )
        assert len(ours) == 40 and ours == theirs
    assert math.isclose(
        read_scalars(killed)["rollout/tokens_so_far"][-1][1],
        read_scalars(whole)["rollout/tokens_so_far"][-1][1],
    )


def count(folder: Path) -> int:
    return len([*records.files_of(folder, "completions")])
