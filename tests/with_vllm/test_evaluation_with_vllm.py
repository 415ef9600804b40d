"""A killed evaluation goes on with vLLM."""

from __future__ import annotations

import json
import subprocess

import pytest

from support.evaluating import command, grade, killed_and_resumed

pytestmark = pytest.mark.vllm


def test_a_killed_evaluation_goes_on_with_vllm(tmp_path):
    whole = tmp_path / "whole"
    subprocess.run(command(whole, "sampler=vllm"), check=True)
    folder = killed_and_resumed(tmp_path / "killed", "sampler=vllm")
    results = json.loads((folder / "results.json").read_text())
    assert results == json.loads((whole / "small" / "results.json").read_text())
    assert results[0]["accuracy"] > 0.3
    grade(folder)
    assert json.loads((folder / "results.json").read_text()) == results
