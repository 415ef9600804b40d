"""Adapters learn the default task, and on two ranks as on one."""

from __future__ import annotations

import re

import pytest
import torch

from stapo_pl.policy.export import export
from stapo_pl.policy.loading import load_policy
from stapo_pl.training.runs import last_checkpoint
from support.adapters import LORA, OTHERS
from support.fitting import build, fit, read_scalars
from support.ranks import CHECKPOINT, OFFLOAD, PACK, assert_equal_curves, recorded, run, start

pytestmark = pytest.mark.slow


def test_two_ranks_train_the_adapters_of_one_and_resume(tmp_path):
    one, words = recorded(tmp_path, *LORA, "objective=stapo", "trainer.max_epochs=2")
    run(tmp_path / "2", 2, *words, "trainer.max_epochs=1")
    two = run(tmp_path / "2", 2, *words, OFFLOAD, PACK, CHECKPOINT, "ckpt_path=last")
    assert_equal_curves(two, one, 4)
    for lora, reason in OTHERS.items():
        checkpoint = f"ckpt_path={last_checkpoint(two.parent)}"
        refused = start(tmp_path / "2", 2, *words, checkpoint, f"model.lora={lora}")
        assert refused.returncode == 2 and re.search(f"error: .*{reason}", refused.stderr)
    exported = []
    for folder in (one, two):
        export(last_checkpoint(folder.parent), tmp_path / "model", overwrite=True)
        exported.append(dict(load_policy(str(tmp_path / "model")).named_weights()))
    for name, weight in exported[0].items():
        torch.testing.assert_close(exported[1][name], weight, rtol=0, atol=1e-6)


def test_adapters_learn_the_default_task(tmp_path):
    words = ["model.lora={rank: 16}", "model.optimizer.lr=4e-3", "trainer.max_epochs=10"]
    cli = fit(build(["objective=stapo", *words], tmp_path))
    (_, before), *_, (_, after) = read_scalars(cli.folder)["val/accuracy_greedy"]
    assert before < 0.6 and after >= 0.8
