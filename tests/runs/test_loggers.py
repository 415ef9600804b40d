"""With any logger, a run's folder holds config, checkpoints and curves, and it goes on."""

from __future__ import annotations

import csv
import importlib.util
import json

import pytest

from stapo_pl.core.errors import ConfigError
from support.fitting import fit, make, read_scalars

SHORT = ("trainer.max_epochs=1", "data.prompts_per_rollout=4", "run.completions_every=1")


def steps(folder) -> list[int]:
    with (folder / "metrics.csv").open() as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["policy/loss"]]


@pytest.mark.parametrize("words", [("logger=csv",), ("logger=csv,tensorboard",)])
def test_a_run_s_folder_is_its_own_with_any_logger(words, tmp_path):
    bar = "trainer.enable_progress_bar=false"
    cli = fit(make(tmp_path, *SHORT, *words, bar))
    assert (cli.folder / "config.yaml").is_file() and list(cli.folder.glob("checkpoints/*.ckpt"))
    assert steps(cli.folder) == [0]
    with_texts = "tensorboard" in words[0]
    assert (cli.folder / "completions.md").exists() is not with_texts
    assert bool(list(cli.folder.glob("events*"))) is with_texts
    again = fit(make(tmp_path, *SHORT[1:], *words, bar, "trainer.max_epochs=2", "ckpt_path=last"))
    assert again.folder == cli.folder and steps(cli.folder) == [0, 1]
    if with_texts:
        assert len(read_scalars(cli.folder)["policy/loss"]) == 2
    else:
        assert "# Step 1" in (cli.folder / "completions.md").read_text()
        assert "training" in (cli.folder / "data.md").read_text()


def test_without_a_logger_and_callbacks_there_is_still_a_folder(tmp_path):
    words = ("trainer.logger=false", "trainer.without=[Alarms,RunProgress]")
    cli = fit(make(tmp_path, *SHORT, *words, "run.checkpoint_every=1"))
    assert list(cli.folder.glob("checkpoints/*.ckpt")) and (cli.folder / "config.yaml").is_file()


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_a_missing_wandb_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="logger=wandb needs wandb, which is not installed"):
        make(tmp_path, *SHORT, "logger=wandb")


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_offline_writes_into_the_folder(tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    cli = fit(make(tmp_path, *SHORT, "logger=wandb", "logger.project=mine",
                   "logger.settings={name: ours}", "objective.tau_p=0.1"))  # fmt: skip
    assert cli.trainer.logger.experiment.name == "ours"
    shown = {*cli.trainer.logger.experiment.summary.keys()}
    wandb.finish()
    assert {"policy/loss", "completions", "data", "config"} <= shown
    assert list(cli.folder.glob("wandb/offline-run-*/*.wandb"))
    (table,) = cli.folder.glob("wandb/offline-run-*/files/media/table/silenced_tokens*.json")
    shown = json.loads(table.read_text())
    assert shown["columns"][:2] == ["context", "p"] and "⟦" in shown["data"][0][0]
    assert list(cli.folder.glob("checkpoints/*.ckpt"))
