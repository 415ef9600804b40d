"""`stapo inspect`: the run that it finds, what it prints, and how it refuses."""

from __future__ import annotations

import sys

import pytest

from stapo_pl.cli.inspect import main
from support.recorded import TEXTS, Folder


def refused(capsys, *words) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and line.startswith("error: ")
    return line


def test_a_name_means_its_newest_run(tmp_path, capsys):
    for version in (2, 10):
        Folder(tmp_path / f"version_{version}").write(TEXTS, rare=(1,))
    main([str(tmp_path)])
    page = tmp_path / "version_10" / "inspect.html"
    out = capsys.readouterr().out
    assert out.startswith(f"wrote {page} (") and "<title>" in page.read_text()[:2000]
    assert "in 3 completions" in out and "silenced rare tokens" in out


def test_the_page_can_be_written_elsewhere(tmp_path):
    Folder(tmp_path / "version_0").write(TEXTS)
    main([str(tmp_path / "version_0"), "--out", str(tmp_path / "page.html")])
    assert (tmp_path / "page.html").is_file()


def test_a_run_without_records_is_shown_and_says_what_to_switch_on(tmp_path, capsys):
    Folder(tmp_path / "version_0").write_curves(4)
    main([str(tmp_path)])
    assert "recorder.tokens=all" in capsys.readouterr().out


def test_a_run_without_a_config_shows_tokens_by_number(tmp_path, capsys):
    made = Folder(tmp_path / "version_0")
    made.write(TEXTS)
    (made.folder / "config.yaml").unlink()
    main([str(tmp_path)])
    assert "tokens are shown by number" in capsys.readouterr().out


def test_bad_input_is_one_line(tmp_path, capsys):
    assert "no such folder" in refused(capsys, tmp_path / "nothing")
    assert "not a run; name a run folder" in refused(capsys, tmp_path)
    Folder(tmp_path / "version_0").write(TEXTS)
    line = refused(capsys, tmp_path, "--out", tmp_path / "no" / "page.html")
    assert "cannot be written" in line


def test_a_missing_package_is_named(tmp_path, capsys, monkeypatch):
    Folder(tmp_path / "version_0").write(TEXTS)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert "pip install stapo_pl[insight]" in refused(capsys, tmp_path)
