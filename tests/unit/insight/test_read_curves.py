"""Curves are read back from event files and from metrics.csv."""

from __future__ import annotations

import pytest
from torch.utils.tensorboard import SummaryWriter

from stapo_pl.insight.curves import read_curves

TABLE = "step,val/accuracy,reward/mean\n0,0.5,\n0,,0.25\n2,0.75,1.0\n"


def write_events(folder, points, **settings):
    writer = SummaryWriter(str(folder), **settings)
    for step, value in points.items():
        writer.add_scalar("reward/mean", value, step)
    writer.close()


def test_a_table_has_a_curve_for_each_column(tmp_path):
    (tmp_path / "metrics.csv").write_text(TABLE)
    assert read_curves(tmp_path) == {
        "val/accuracy": {0: 0.5, 2: 0.75},
        "reward/mean": {0: 0.25, 2: 1.0},
    }


def test_a_row_that_a_kill_cut_is_left_out(tmp_path):
    (tmp_path / "metrics.csv").write_text(TABLE + "4,0.99,0.1")
    assert max(read_curves(tmp_path)["reward/mean"]) == 2


def test_event_files_hold_more_points_than_tensorboard_shows(tmp_path):
    points = {step: step / 4096 for step in range(1500)}
    write_events(tmp_path, points)
    assert read_curves(tmp_path)["reward/mean"] == points


def test_steps_that_a_resumed_run_made_again_are_there_once(tmp_path):
    write_events(tmp_path, {0: 1.0, 1: 2.0, 2: 3.0})
    write_events(tmp_path, {1: 4.0}, purge_step=1, filename_suffix=".later")
    assert read_curves(tmp_path)["reward/mean"] == {0: 1.0, 1: 4.0}


def test_a_run_that_went_on_with_another_logger_has_both_parts(tmp_path):
    write_events(tmp_path, {0: 1.0, 1: 2.0})
    (tmp_path / "metrics.csv").write_text("step,reward/mean\n2,3.0\n")
    assert read_curves(tmp_path)["reward/mean"] == {0: 1.0, 1: 2.0, 2: 3.0}


@pytest.mark.parametrize("name", ["config.yaml", "hparams.yaml"])
def test_a_folder_without_curves_has_none(name, tmp_path):
    (tmp_path / name).touch()
    assert read_curves(tmp_path) == {}
