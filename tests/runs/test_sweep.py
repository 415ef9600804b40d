"""A sweep trains what is missing, and takes only finished runs of the same settings again."""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from stapo_pl.cli import sweep

WORDS = [
    "seed_everything=0,1", "objective=grpo", "logger=csv", "trainer.max_epochs=2",
    "data.prompts_per_rollout=4", "data.prompts_per_mini_batch=4", "data.group_size=2",
    "trainer.accumulate_grad_batches=1", "data.max_new_tokens=8", "data.validation.samples=1",
    "trainer.check_val_every_n_epoch=2", "task.validation_size=4", "task.train_size=64",
    "data.grading.workers=1", "run.checkpoint_every=1", "run.checkpoint_keep=-1",
]  # fmt: skip


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[Path, str]:
    """The folder of a sweep of two seeds, and the table that it printed."""
    logs = tmp_path_factory.mktemp("swept")
    with redirect_stdout(io.StringIO()) as printed:
        sweep.main(["--logs", str(logs), *WORDS])
    return logs, printed.getvalue()


@pytest.fixture
def logs(swept, tmp_path) -> Path:
    """A copy of that folder, to change."""
    return shutil.copytree(swept[0], tmp_path / "logs")


@pytest.fixture
def started(monkeypatch) -> list[dict]:
    """The runs that are started, which fail at once: their words and their environments."""
    started = []

    def fail(command, env, **_):
        started.append({"words": command, "env": env})
        return subprocess.CompletedProcess(command, 1, "", "it was not to be trained")

    monkeypatch.setattr(sweep.subprocess, "run", fail)
    return started


def seeds_trained(logs: Path, started: list, *words: str) -> set[str]:
    """Sweeps again; returns the seeds of the runs that it started."""
    try:
        sweep.main(["--logs", str(logs), *WORDS, *words])
    except SystemExit as end:
        assert end.code == 1 and started  # a run that is started fails
    seeds = [w for run in started for w in run["words"] if w.startswith("seed_everything=")]
    return {word.partition("=")[2] for word in seeds}


def run_folder(logs: Path, seed: int) -> Path:
    (folder,) = logs.glob(f"*-seed{seed}/version_0")
    return folder


def test_finished_runs_are_taken_again_and_named(swept, logs, started, capsys):
    assert seeds_trained(logs, started) == set()
    out, said = capsys.readouterr()
    assert out.splitlines()[:3] == swept[1].splitlines()[:3]
    for seed in (0, 1):
        assert f"seed_everything={seed}: reused, {run_folder(logs, seed)}" in said


def test_the_table_is_the_mean_over_seeds(swept):
    head, _, row = ([cell.strip() for cell in line.strip("|").split("|")]
                    for line in swept[1].splitlines()[:3])  # fmt: skip
    assert head[:2] == ["seeds", "greedy before"] and row[0] == "2"
    last = []
    for seed in (0, 1):
        with (run_folder(swept[0], seed) / "metrics.csv").open() as file:
            values = [r["policy/entropy"] for r in csv.DictReader(file) if r["policy/entropy"]]
        last.append(float(values[-1]))
    assert row[head.index("entropy last")] == f"{sum(last) / 2:.3f}"


def test_a_run_of_another_name_and_place_is_taken_again(logs, started):
    run_folder(logs, 0).parent.rename(logs / "renamed")
    assert seeds_trained(logs.rename(logs.with_name("moved")), started) == set()


def test_changed_settings_are_trained(logs, started):
    assert seeds_trained(logs, started, "data.temperature=0.7") == {"0", "1"}


def test_settings_without_an_effect_on_the_weights_count_too(logs, started):
    assert seeds_trained(logs, started, "data.validation.samples=2") == {"0", "1"}


def test_a_run_that_was_killed_before_its_last_rollout_is_trained(logs, started):
    (run_folder(logs, 0) / "checkpoints" / "rollout-00001.ckpt").unlink()
    assert seeds_trained(logs, started) == {"0"}


def test_a_run_without_a_checkpoint_is_trained(logs, started):
    shutil.rmtree(run_folder(logs, 1) / "checkpoints")
    assert seeds_trained(logs, started) == {"1"}


def test_a_run_that_was_killed_before_its_last_validation_is_trained(logs, started):
    file = run_folder(logs, 1) / "metrics.csv"
    with file.open() as table:
        rows = [*csv.DictReader(table)]
    *_, last = (i for i, row in enumerate(rows) if row["val/accuracy"])
    assert last > 0 and rows[last]["step"] == "1"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[: last + 1] + lines[last + 2 :]))  # the first line is the head
    assert seeds_trained(logs, started) == {"1"}


def test_a_config_that_was_being_written_does_not_stop_a_sweep(logs, started):
    (run_folder(logs, 0) / "config.yaml").write_text("seed_everything: 0\ntrainer: {")
    assert seeds_trained(logs, started) == {"0"}


@pytest.mark.parametrize(("jobs", "threads"), [("2", "32"), ("64", "1"), ("100", "1")])
def test_runs_at_a_time_share_the_cores(jobs, threads, tmp_path, started, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    seeds_trained(tmp_path, started, "--jobs", jobs)
    assert {run["env"]["OMP_NUM_THREADS"] for run in started} == {threads}


def test_a_run_that_fails_says_why(tmp_path, started, capsys):
    seeds_trained(tmp_path, started)
    assert "error: seed_everything=0 failed:\nit was not to be trained" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lr=1"], "error: lr: no such key; did you mean model.optimizer.lr?"),
        (["model.optimizer.lr=1e-4,x"], "error: model.optimizer.lr=x: expected a number"),
        (["objective=grpo,"], "error: objective=grpo,: a value is missing"),
        (["--jobs", "0"], "error: --jobs must be at least 1, got 0"),
    ],
)
def test_wrong_words_are_one_line_before_any_run(words, message, tmp_path, started, capsys):
    with pytest.raises(SystemExit) as end:
        sweep.main(["--logs", str(tmp_path), *words])
    assert end.value.code == 2 and not started
    assert capsys.readouterr().err.startswith(message)
