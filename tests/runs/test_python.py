"""A run from Python is the one that the command makes."""

from __future__ import annotations

import csv
import subprocess
import sys
import textwrap

import lightning as L
import pytest

import stapo_pl
from stapo_pl.training.callbacks import Alarms, RolloutCheckpoint, RunProgress
from stapo_pl.training.loggers import CSV
from stapo_pl.training.runs import Run
from stapo_pl.training.trainer import RolloutTrainer
from support.fitting import read_scalars

OWN = {"RunProgress", "RolloutLog", "RunSummary", "Alarms", "RolloutCheckpoint", "SamplerCallback"}


def shown_lines(**replaced: str) -> str:
    """The lines that the package's docstring shows."""
    lines = textwrap.dedent(stapo_pl.__doc__.partition(":\n\n")[2])
    for old, new in replaced.items():
        assert old in lines
        lines = lines.replace(old, new)
    return lines


def names(trainer: L.Trainer) -> list[str]:
    return [type(callback).__name__ for callback in trainer.callbacks]


def test_the_lines_shown_train_and_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = "prompts_per_rollout=4, prompts_per_mini_batch=4, group_size=2, max_new_tokens"
    task = {"Arithmetic(),": "Arithmetic(train_size=16, validation_size=4),"}
    lines = shown_lines(**task, max_new_tokens=small)
    exec(lines.replace("max_epochs=75", "max_epochs=1"), {})
    folder = tmp_path / "logs" / "mine" / "version_0"
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["rollout-00000.ckpt"]
    assert "val/accuracy" in capsys.readouterr().out
    longer = lines.replace("max_epochs=75", "max_epochs=2")
    exec(longer.replace("fit(module, data)", "fit(module, data, ckpt_path='last')"), {})
    assert [step for step, _ in read_scalars(folder)["policy/loss"]] == [0, 1]
    assert not folder.with_name("version_1").exists()


def test_the_package_names_what_it_has_and_imports_nothing_heavy():
    assert all(getattr(stapo_pl, name).__name__ == name for name in stapo_pl.__all__)
    assert {*stapo_pl.__all__} == {*stapo_pl._MODULES}
    code = "import sys, stapo_pl; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        stapo_pl.Nothing  # noqa: B018


def test_callbacks_of_the_project_are_there_unless_given_or_left_out():
    assert {*names(RolloutTrainer())} >= OWN
    mine = RolloutCheckpoint(every_n_rollouts=1)
    trainer = RolloutTrainer(callbacks=[mine], without=["Alarms"], enable_progress_bar=False)
    assert trainer.checkpoint_callbacks == [mine]
    assert not {"Alarms", "RunProgress"} & {*names(trainer)}
    assert names(RolloutTrainer(callbacks=RunProgress())).count("RunProgress") == 1
    trainer = RolloutTrainer(enable_checkpointing=False, without=["RunProgress"], logger=False)
    assert not trainer.checkpoint_callbacks and trainer.progress_bar_callback is None
    assert not trainer.loggers
    trainer = RolloutTrainer(run=Run(checkpoint_every=3, checkpoint_keep=2))
    (saves,) = trainer.checkpoint_callbacks
    assert (saves.every_n_rollouts, saves.save_top_k) == (3, 2)
    assert not isinstance(trainer.callbacks[0], Alarms)


def test_a_table_of_curves_goes_on_where_the_run_does(tmp_path):
    def rows() -> list[dict[str, str]]:
        with (tmp_path / "metrics.csv").open() as file:
            return list(csv.DictReader(file))

    def log(logger: CSV, step: int, **values: float) -> None:
        logger.log_metrics(values, step)
        logger.save()

    first = CSV()
    first.place(tmp_path, None)
    for step in range(3):
        log(first, step, loss=step)
    log(first, 2, reward=1.0)
    assert [row["step"] for row in rows()] == ["0", "1", "2", "2"] and rows()[3]["loss"] == ""
    again = CSV()
    again.place(tmp_path, 2)
    assert len(rows()) == 4  # a run that is refused leaves the table as it was
    log(again, 2, loss=7.0)
    log(again, 2, entropy=1.0)
    assert [row["step"] for row in rows()] == ["0", "1", "2", "2"]
    assert [row["loss"] for row in rows()] == ["0", "1", "7.0", ""]
