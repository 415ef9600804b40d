"""The words that name benchmarks."""

from __future__ import annotations

import json

import pytest

from stapo_pl.cli.grammar import EVALUATE, OverrideError, expand
from stapo_pl.evaluation.paper import PAPER_BENCHMARKS
from support.places import CONFIGS


def test_benchmark_words(tmp_path):
    words = ["benchmark=all", "benchmark.path=F", "benchmark.samples=2"]
    (word,) = expand(words, CONFIGS, EVALUATE)
    chosen = json.loads(word.partition("=")[2])
    assert tuple(chosen) == PAPER_BENCHMARKS
    assert {b["samples"] for b in chosen.values()} == {2}
    assert {b["task"]["init_args"]["path"] for b in chosen.values()} == {"F"}
    (word,) = expand(["benchmark=aime24, minerva"], CONFIGS, EVALUATE)
    chosen = json.loads(word.partition("=")[2])
    assert [b["samples"] for b in chosen.values()] == [32, 4]
    (word,) = expand(["benchmark=aime24", "benchmark.reward=dapo"], CONFIGS, EVALUATE)
    assert "DAPORule" in word
    (word,) = expand(["benchmark=aime24", "benchmark.reward=my.Own"], CONFIGS, EVALUATE)
    assert '"reward": {"class_path": "my.Own"}' in word
    for words, message in (
        (["benchmark.path=F"], "say which ones"),
        (["benchmark="], "say which ones"),
        (["benchmark=aime24", "benchmark.path=["], "no YAML value"),
        (["benchmark=aime24,amc23,aime24"], "aime24 is named twice"),
        (["benchmark=aime24", "benchmark.reward.path=x"], "only a task's own keys"),
    ):
        with pytest.raises(OverrideError, match=message):
            expand(words, CONFIGS, EVALUATE)
    with pytest.raises(OverrideError, match=r"did you mean aime25\?"):
        expand(["benchmark=aime26"], CONFIGS, EVALUATE)
