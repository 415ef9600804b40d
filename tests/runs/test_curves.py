"""Ten optimizer steps of every objective, on recorded rollouts, give the recorded curves.

The rollouts in golden/rollouts.json.gz were written by the shipped policy through the transformers
sampler. They are replayed whatever the weights are, so that a curve depends on nothing but the
passes, the objective and the optimizer. golden/objectives.json holds the curves, each value with
all digits of its float32, and the words that made them.

Another CPU rounds otherwise, so figures are compared with a tolerance. STAPO_EXACT=1 compares them
to the last bit: the code before and after a change, on the machine that recorded them.

support/curves.py records both files again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
import torch

from support.curves import CURVES, RECORDED, curves_of, words_of
from support.objectives import build_objective
from support.places import OBJECTIVES


@pytest.fixture
def one_thread() -> Iterator[None]:
    """How a sum is shared among threads is a part of its rounding."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_curves_are_the_recorded_ones(tmp_path, one_thread, objective):
    recorded = json.loads(RECORDED.read_text())[objective]
    assert recorded["words"] == words_of(objective), "not recorded since the words were changed"
    curves = curves_of([*words_of(objective), "sampler=support.replay.Replay"], tmp_path)
    for name in CURVES:
        expected = recorded[name]
        if os.environ.get("STAPO_EXACT") != "1":
            expected = pytest.approx(expected, rel=1e-5, abs=1e-7)
        assert curves[name] == expected, name


@pytest.mark.parametrize("objective", ["stapo", "dapo", "entropy20", "gspo", "reinforce_pp"])
def test_sequences_that_teach_nothing_need_no_pass(tmp_path, one_thread, objective):
    """Losses and gradients are those of all sequences, and what is silenced is counted exactly.

    Whole runs of some objectives; the gradients of all of them are compared in test_pruning.py.
    """
    recorded = json.loads(RECORDED.read_text())[objective]
    words = (*words_of(objective), "data.prune=true", "sampler=support.replay.Replay")
    curves = curves_of([*words], tmp_path)
    # Entropy is estimated from a sample, unless the selection looks at all tokens.
    estimated = set() if build_objective(objective).sees_all_tokens else {"policy/entropy"}
    for name in CURVES:
        rel = 0.5 if name in estimated else 1e-5
        assert curves[name] == pytest.approx(recorded[name], rel=rel, abs=1e-7), name
