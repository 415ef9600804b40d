"""A killed run goes on with vLLM, and a killed evaluation."""

from __future__ import annotations

import json
import signal

import pytest

from support import resuming
from support.evaluating import grade, killed_and_resumed, start

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def run_with_vllm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run_with_vllm")
    assert resuming.fit(folder, None, "sampler=vllm").returncode == 0
    return resuming.losses(folder)


@pytest.mark.parametrize("moment", ["during a rollout", "between micro-batches", "the engine dies"])
def test_a_run_with_vllm_resumes_to_the_last_bit(run_with_vllm, tmp_path, moment):
    ended = resuming.fit(tmp_path, moment, "sampler=vllm")
    if moment == "the engine dies":
        assert ended.returncode == 1
        last = ended.stderr.strip().splitlines()[-1]
        assert last.startswith("error: the vLLM engine died while taking over weights: ")
        assert "ckpt_path=last goes on from the last checkpoint in" in ended.stdout
        assert "Traceback" not in ended.stderr
    else:
        assert ended.returncode == -signal.SIGKILL
    before = resuming.losses(tmp_path)
    (tmp_path / "losses").unlink()
    assert resuming.fit(tmp_path, None, "sampler=vllm", "ckpt_path=last").returncode == 0
    after = resuming.losses(tmp_path)
    assert min(key[0] for key in after if key[0] != "validation") == "2"
    assert before | after == run_with_vllm
    assert {key: after[key] for key in after if key in before} == {
        key: before[key] for key in after if key in before
    }


def test_a_killed_evaluation_goes_on_with_vllm(tmp_path):
    whole = tmp_path / "whole"
    assert start(whole, "sampler=vllm").wait().returncode == 0
    folder = killed_and_resumed(tmp_path / "killed", "sampler=vllm")
    results = json.loads((folder / "results.json").read_text())
    assert results == json.loads((whole / "small" / "results.json").read_text())
    assert results[0]["accuracy"] > 0.3
    grade(folder)
    assert json.loads((folder / "results.json").read_text()) == results
