"""A killed evaluation goes on with vLLM."""

from __future__ import annotations

import json

import pytest

from support.evaluating import grade, killed_and_resumed, start

pytestmark = pytest.mark.vllm


def test_a_killed_evaluation_goes_on_with_vllm(tmp_path):
    whole = tmp_path / "whole"
    assert start(whole, "sampler=vllm").wait().returncode == 0
    folder = killed_and_resumed(tmp_path / "killed", "sampler=vllm")
    results = json.loads((folder / "results.json").read_text())
    assert results == json.loads((whole / "small" / "results.json").read_text())
    assert results[0]["accuracy"] > 0.3
    grade(folder)
    assert json.loads((folder / "results.json").read_text()) == results
