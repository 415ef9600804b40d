"""Runs side by side: which settings differ, which runs are seeds of one setting, and their band."""

from __future__ import annotations

import re
import struct
import sys

import pytest

from stapo_pl.core.errors import ConfigError
from stapo_pl.insight.compare import (
    Setting,
    differing,
    figures_table,
    group_by_setting,
    panels,
    settings_table,
    short_names,
)
from stapo_pl.insight.drawing import draw_html, draw_png

GRPO = {"objective": "GRPO", "model.lr": 1e-4, "data.group_size": 8}
STAPO = {"objective": "STAPO", "model.lr": 1e-4, "data.group_size": 8, "objective.tau_p": 0.002}
RUNS = {
    "grpo-seed0": {"seed_everything": 0, **GRPO},
    "grpo-seed1": {"seed_everything": 1, **GRPO},
    "stapo-seed0": {"seed_everything": 0, **STAPO},
}
CURVES = {
    "grpo-seed0": {"val/accuracy": {0: 0.5, 4: 0.9, 8: 0.7}, "policy/entropy": {1: 0.2, 2: 0.1}},
    "grpo-seed1": {"val/accuracy": {0: 0.3, 4: 0.5, 8: 0.8}, "policy/entropy": {1: 0.4, 2: 0.3}},
    "stapo-seed0": {"val/accuracy": {0: 0.4, 4: 0.6, 8: 0.8}},
}


def grouped() -> list[Setting]:
    return group_by_setting(RUNS, CURVES)


def cells(table: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()]
    return [rows[0], *rows[2:]]


def test_only_settings_that_differ_are_shown_and_missing_ones_are_blank():
    assert differing(RUNS) == {
        "seed_everything": ["0", "1", "0"],
        "objective": ["GRPO", "GRPO", "STAPO"],
        "objective.tau_p": ["", "", "0.002"],
    }


def test_a_setting_that_is_null_is_not_one_that_is_missing():
    assert differing({"a": {"x": None}, "b": {}}) == {"x": ["null", ""]}


def test_the_table_of_settings_has_a_column_for_each_run():
    table = cells(settings_table(RUNS))
    assert table[0] == ["setting", "grpo-seed0", "grpo-seed1", "stapo-seed0"]
    assert table[2] == ["objective", "GRPO", "GRPO", "STAPO"]
    assert settings_table({"a": GRPO, "b": GRPO}) == "no setting differs"


def test_runs_that_differ_only_in_the_seed_are_one_setting():
    assert [(each.name, len(each.curves)) for each in grouped()] == [("grpo", 2), ("stapo", 1)]


def test_settings_of_the_same_name_keep_the_names_of_their_runs():
    runs = {"grpo-seed0": {"seed_everything": 0, "trainer.max_epochs": 1},
            "grpo-seed1": {"seed_everything": 1, "trainer.max_epochs": 2}}  # fmt: skip
    found = group_by_setting(runs, {run: {} for run in runs})
    assert [each.name for each in found] == ["grpo-seed0", "grpo-seed1"]


def test_a_band_is_the_mean_and_the_range_of_all_seeds():
    band = grouped()[0].band("val/accuracy")
    assert band.steps == [0, 4, 8]
    assert band.mean == pytest.approx([0.4, 0.7, 0.75])
    assert (band.low, band.high) == ([0.3, 0.5, 0.7], [0.5, 0.9, 0.8])


def test_a_band_has_only_the_steps_that_all_seeds_have():
    cut = Setting("cut", [{"x": {0: 1.0, 1: 2.0, 3: 4.0}}, {"x": {0: 3.0, 2: 9.0, 3: 0.0}}])
    band = cut.band("x")
    assert (band.steps, band.mean) == ([0, 3], [2.0, 2.0])
    assert Setting("none", [{"x": {0: 1.0}}, {}]).band("x") is None


def test_seeds_that_end_at_other_steps_are_known():
    cut = Setting("cut", [{"x": {0: 1.0, 9: 1.0}}, {"x": {0: 1.0}, "y": {2: 1.0}}])
    assert cut.last_steps == [2, 9] and grouped()[0].last_steps == [8]


def test_the_best_accuracy_is_the_mean_of_each_seed_s_highest_and_entropy_has_a_range():
    table = cells(figures_table(grouped()))
    assert table[1] == ["val/accuracy", "grpo", "2", "40.0%", "75.0%", "85.0%"]
    assert table[2] == ["val/accuracy", "stapo", "1", "40.0%", "80.0%", "80.0%"]
    assert table[3] == ["policy/entropy", "grpo", "2", "0.3", "0.2", "0.1 to 0.4"]
    assert len(table) == 4  # the other setting has no entropy


def test_the_main_curves_are_shown_and_no_others():
    names = ("policy/loss", "val/aime24/accuracy", "val/aime24/pass_at_k", "reward/mean")
    shown = panels([Setting("run", [{name: {0: 1.0} for name in names}])])
    assert [panel.curve for panel in shown] == ["val/aime24/accuracy", "reward/mean"]


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["grpo-add-lr1-seed0", "stapo-add-lr1-seed1"], ["grpo-seed0", "stapo-seed1"]),
        (["stapo-add-seed0", "stapo-add-lr1-seed0"], ["stapo", "stapo-lr1"]),
        (["stapo-add-seed0"], ["stapo-add-seed0"]),
        (["a-b-c", "a-c-b"], ["a-b-c", "a-c-b"]),  # both would be called a
    ],
)
def test_short_names_keep_what_differs(names, short):
    assert short_names(names) == short


def test_the_image_is_1200_pixels_wide_and_draws_every_setting(tmp_path):
    settings = grouped()
    file = tmp_path / "compare.png"
    draw_png(file, panels(settings), [each.name for each in settings])
    assert struct.unpack(">I", file.read_bytes()[16:20]) == (1200,)


def test_the_page_fetches_nothing_and_holds_the_curves(tmp_path):
    settings = grouped()
    file = tmp_path / "compare.html"
    draw_html(file, panels(settings), [each.name for each in settings])
    text = file.read_text()
    assert not re.search(r"<(script|link|img)[^>]+(src|href)\s*=", text)
    assert len(text) > 1_000_000  # Plotly's script is in it
    drawn = text[text.rindex("Plotly.newPlot") :]
    assert '"name":"grpo"' in drawn and '"name":"stapo"' in drawn
    assert drawn.count('"fill":"toself"') == 2  # grpo's two curves have bands, stapo has one seed


@pytest.mark.parametrize(
    ("draw", "module"), [(draw_png, "matplotlib.figure"), (draw_html, "plotly.graph_objects")]
)
def test_a_missing_package_is_one_line_that_says_how_to_install_it(
    draw, module, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"{module.split('.')[0]}.*pip install .*\[insight\]"):
        draw(tmp_path / "file", panels(grouped()), ["grpo", "stapo"])
