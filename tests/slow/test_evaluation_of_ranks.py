"""An evaluation of two ranks."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from support.evaluating import SMALL, completions
from support.places import ROOT

pytestmark = pytest.mark.slow


def test_two_ranks_sample_what_one_does(tmp_path, finished):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    words = ["sampler=transformers", "verifier.path=" + str(ROOT / "stapo_pl/assets/arithmetic")]
    words.append("verifier.max_new_tokens=8")
    command = [ROOT / "scripts" / "evaluate.py", *SMALL, f"run.logs={tmp_path}", *words]
    subprocess.run([*torchrun, *command], check=True)
    both = completions(tmp_path / "small")
    for name, content in completions(finished).items():
        assert "completions-0" in name
        lines = both[name].splitlines() + both[name.replace("s-0", "s-1")].splitlines()[1:]
        assert sorted(lines) == sorted(content.splitlines())
    results = [
        json.loads((folder / "results.json").read_text())
        for folder in (finished, tmp_path / "small")
    ]
    assert results[0] == results[1]
    verified = json.loads((tmp_path / "small" / "results-verified.json").read_text())
    assert [row["accepted_by_verifier"] for row in verified] == [0, 0]
