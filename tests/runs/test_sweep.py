"""The comparison shows a run's curves only if it came to its end, with the same settings."""

from __future__ import annotations

import os

import pytest

from stapo_pl.cli import compare

SMALL = [
    "data.prompts_per_rollout=4", "data.prompts_per_mini_batch=4", "data.group_size=2",
    "trainer.max_epochs=1", "trainer.accumulate_grad_batches=1", "data.max_new_tokens=8",
    "data.validation.samples=1", "trainer.check_val_every_n_epoch=1", "task.validation_size=4",
]  # fmt: skip


@pytest.fixture
def started(monkeypatch):
    """The environments of the runs that are started."""
    started = []
    run = compare.subprocess.run
    monkeypatch.setattr(
        compare.subprocess, "run", lambda *a, env, **k: started.append(env) or run(*a, env=env, **k)
    )
    return started


def test_only_a_finished_run_of_the_same_settings_is_taken(tmp_path, monkeypatch, capsys, started):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)

    def table(*words: str) -> str:
        argv = ["--objectives", "grpo", "--seeds", "0", "--logs", str(tmp_path)]
        compare.main([*argv, "--", *SMALL, *words])
        return capsys.readouterr().out

    killed = tmp_path / "grpo-transformers-seed0" / "version_0"
    killed.mkdir(parents=True)
    (killed / "finished").touch()  # as the first versions of the script marked it, wrongly
    first = table()
    assert len(started) == 1 and started[0]["OMP_NUM_THREADS"] == "1"
    assert (killed.with_name("version_1") / compare.FINISHED).exists()
    assert not (killed / compare.FINISHED).exists()
    assert table() == first and len(started) == 1
    root, words = killed.parent, ["objective=grpo", "sampler=transformers", "seed_everything=0"]
    words += [f"run.name={root.name}", f"run.logs={tmp_path}", *SMALL]
    settings = compare.resolved(words)
    assert compare.finished(root, settings) == killed.with_name("version_1")
    assert compare.finished(root, compare.resolved([*words, "data.temperature=0.7"])) is None
    (killed.with_name("version_1") / compare.FINISHED).unlink()  # as if it had been killed
    assert compare.finished(root, settings) is None


def test_wrong_words_are_one_line_before_any_run(tmp_path, started):
    with pytest.raises(SystemExit, match=r"did you mean model\.optimizer\.lr"):
        compare.main(["--logs", str(tmp_path), "--", "lr=1"])
    assert not started
