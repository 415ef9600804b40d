"""Runs that train adapters, their checkpoints and exports."""

from __future__ import annotations

import pytest
import torch

from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.export import export
from stapo_pl.policy.loading import load_policy
from stapo_pl.policy.model import is_adapter, shipped_policy
from support.adapters import LORA, OTHERS
from support.fitting import fit, make, read_scalars


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return fit(make(folder, *LORA, "objective=grpo", "objective.kl_coef=0.1"))


def test_a_checkpoint_holds_adapters_only(trained):
    (checkpoint,) = trained.folder.glob("checkpoints/*.ckpt")
    names = torch.load(checkpoint, weights_only=False)["state_dict"].keys()
    assert len(names) == 2 * 7 * 3 and all(map(is_adapter, names))


def test_the_base_is_the_reference_and_has_no_second_copy(trained):
    assert trained.model.frozen.reference is None
    divergence = read_scalars(trained.folder)["policy/kl_reference"]
    assert divergence[0][1] == 0 and divergence[-1][1] > 0


def test_a_run_resumes_from_adapters(trained, tmp_path):
    words = (*LORA, "objective=grpo", "objective.kl_coef=0.1")
    fit(make(tmp_path, *words, "trainer.max_epochs=1"))
    resumed = fit(make(tmp_path, *words, "ckpt_path=last"))
    expected = dict(trained.model.policy.named_weights())
    for name, weight in resumed.model.policy.named_weights():
        assert torch.equal(weight, expected[name]), name


@pytest.mark.parametrize("lora, reason", OTHERS.items())
def test_a_checkpoint_of_other_adapters_is_refused(trained, tmp_path, lora, reason):
    (checkpoint,) = trained.folder.glob("checkpoints/*.ckpt")
    other = make(tmp_path, f"model.lora={lora}", "objective=grpo")
    with pytest.raises(ConfigError, match=reason):
        other.trainer.fit(other.model, datamodule=other.datamodule, ckpt_path=checkpoint)


def test_an_export_has_the_adapters_merged(trained, tmp_path):
    (checkpoint,) = trained.folder.glob("checkpoints/*.ckpt")
    export(checkpoint, tmp_path / "model")
    expected = dict(trained.model.policy.named_weights())
    start = dict(load_policy(str(shipped_policy())).named_weights())
    for name, weight in load_policy(str(tmp_path / "model")).named_weights():
        assert torch.equal(weight, expected[name]), name
        assert torch.equal(weight, start[name]) == ("_proj" not in name), name
