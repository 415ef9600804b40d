"""What an evaluation keeps is read again as it was."""

from __future__ import annotations

import pytest

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Problem
from stapo_pl.evaluation.records import Journal, read_problems, write_problems


def test_a_journal_drops_a_torn_line_and_refuses_other_settings(tmp_path):
    file = tmp_path / "folder" / "lines.jsonl"
    Journal(file, {"seed": 0}).append({(0, 0): {"text": "a\nb\ud800\x00"}})
    with open(file, "ab") as end:
        end.write(b'{"problem": 0, "sample": 1, "te')
    journal = Journal(file, {"seed": 0})
    assert list(journal.read()) == [(0, 0)]
    journal.append({(0, 2): {"text": ""}})
    journal.append({(0, 3, 77): {"text": ""}})
    again = Journal(file, {"seed": 0}).read()
    assert list(again) == [(0, 0), (0, 2), (0, 3, 77)] and again[0, 0]["text"] == "a\nb\ud800\x00"
    with pytest.raises(ConfigError, match=r"made with seed=0, not 1: set run\.name"):
        Journal(file, {"seed": 1}).read()


def test_problems_are_kept_exactly(tmp_path):
    extra = {"grid": ((1, 2), (3,)), 4: {5, 6}, "text": "\u00e9", "none": None}
    plain = {"index": 4, "share": float("nan"), "text": "\u00e9", "list": [1.5, float("inf")]}
    message = {"role": "user", "content": "?"}
    problems = [Problem([message], "4", extra=each) for each in (extra, plain, {})]
    write_problems(tmp_path / "problems.jsonl", problems)
    again = read_problems(tmp_path / "problems.jsonl")
    assert repr(again) == repr(problems) and again[0] == problems[0]
    problems[0].extra["object"] = object()
    with pytest.raises(ConfigError, match="its extra cannot be kept"):
        write_problems(tmp_path / "problems.jsonl", problems)
