"""`stapo compare` on the folder of a run and of an evaluation, and on what is neither."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from stapo_pl.cli.compare import main


def cells(text: str, first: str) -> list[str]:
    """The cells of the table's row that begins with this one."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {first} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture
def runs(small_run, tmp_path) -> list[Path]:
    """Copies of a run as if they were two seeds, and one of another learning rate."""
    folders = []
    for name, seed, lr in (("a-seed0", 0, 1e-3), ("a-seed1", 1, 1e-3), ("b-seed0", 0, 1e-4)):
        folder = shutil.copytree(small_run.folder, tmp_path / name / "version_0")
        settings = yaml.safe_load((folder / "config.yaml").read_text())
        settings["seed_everything"] = seed
        settings["model"]["optimizer"]["init_args"]["lr"] = lr
        settings["run"]["name"] = name
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        folders.append(folder)
    return folders


def refusal(capsys, *words: object) -> str:
    with pytest.raises(SystemExit) as end:
        main([*map(str, words)])
    assert end.value.code == 2
    return capsys.readouterr().err


def test_runs_are_compared_by_their_folders_or_names(runs, tmp_path, capsys):
    out = tmp_path / "out"
    main([str(runs[0]), str(runs[1].parent), str(runs[2]), "--out", str(out)])
    text = capsys.readouterr().out
    assert cells(text, "setting")[1:] == ["a-seed0", "a-seed1", "b-seed0"]
    assert cells(text, "seed_everything")[1:] == ["0", "1", "0"]
    assert cells(text, "model.optimizer.lr")[1:] == ["0.001", "0.001", "0.0001"]
    assert "run.name" not in text  # a name is no setting
    shown = [line.split()[1:6:2] for line in text.splitlines() if "| reward/mean" in line]
    assert shown == [["reward/mean", "a", "2"], ["reward/mean", "b", "1"]]
    assert {file.name for file in out.iterdir()} == {"compare.png", "compare.html"}


def test_the_newest_run_of_a_name_is_taken(runs, tmp_path, capsys):
    newer = shutil.copytree(runs[2], runs[0].with_name("version_10"))
    shutil.copytree(runs[1], runs[0].with_name("version_9"))
    main([str(runs[0]), str(newer.parent), "--out", str(tmp_path / "out")])
    text = capsys.readouterr().out
    assert cells(text, "model.optimizer.lr")[1:] == ["0.001", "0.0001"]
    assert cells(text, "setting")[1:] == ["a-seed0/version_0", "a-seed0/version_10"]


def test_a_seed_that_was_cut_short_is_named(runs, tmp_path, capsys):
    for file in runs[1].glob("events*"):
        file.unlink()
    (runs[1] / "metrics.csv").write_text("step,reward/mean\n0,0.5\n1,0.5\n")
    main([*map(str, runs[:2]), "--out", str(tmp_path / "out")])
    assert "its seeds end at steps [1, 3]" in capsys.readouterr().out


def test_what_is_no_run_is_refused_in_one_line(runs, finished, tmp_path, capsys):
    assert "nope: no such folder" in refusal(capsys, "nope")
    assert f"{tmp_path}: not a run" in refusal(capsys, runs[0], tmp_path)
    for file in runs[0].glob("events*"):
        file.unlink()
    assert f"{runs[0]}: no curves" in refusal(capsys, *runs)
    (runs[1] / "config.yaml").write_text("model: {")
    assert "config.yaml: cannot be read" in refusal(capsys, runs[1])
    assert "some of these are evaluations" in refusal(capsys, runs[2], finished)
    assert "two at a time, got 1" in refusal(capsys, finished)
    (tmp_path / "file").touch()
    said = refusal(capsys, runs[2], "--out", tmp_path / "file")
    assert said == f"error: --out {tmp_path / 'file'}: cannot write there: File exists\n"


def test_two_evaluations_are_compared_problem_by_problem(finished, tmp_path, capsys):
    better = shutil.copytree(finished, tmp_path / "better")
    rows = {}
    for folder in (finished, better):
        file = folder / "arithmetic" / "T1-p1" / "scores.jsonl"
        rows[folder] = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows[better]:
        row["correct"] = True
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[better]))
    main([str(finished), str(better)])
    found = [cell.strip() for cell in capsys.readouterr().out.split("| T1-p1 ")[1].split("|")]
    was = 100 * sum(row["correct"] for row in rows[finished]) / 48
    assert found[2:6] == ["12", f"{was:.2f}", "100.00", f"{100 - was:+.2f}"] and was < 100
    low, high = map(float, found[6].split(" to "))
    assert 0 < low < 100 - was < high
    (better / "arithmetic" / "T1-p1" / "problems.jsonl").write_text("")
    assert "12 and 0 problems" in refusal(capsys, finished, better)
