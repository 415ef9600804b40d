"""Adapters are trained, the base is frozen and is the reference."""

from __future__ import annotations

import re

import pytest
import torch
from conftest import tiny_policy, trajectory
from test_configs import build
from test_fit import fit, make, read_scalars
from test_fsdp import ALL, assert_equal_curves, recorded, run, start

from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.export import export
from stapo_pl.policy.loading import load_policy
from stapo_pl.policy.lora import LoRA, adapters_off, initial_adapter
from stapo_pl.policy.model import is_adapter, shipped_policy
from stapo_pl.rollout.batching import collate
from stapo_pl.training.runs import last_checkpoint

LORA = ("model.lora.rank=4", "model.lora.alpha=8")


def adapted(seed: int = 0, moved: bool = False):
    policy = tiny_policy(seed=seed)
    LoRA(rank=2).add_to(policy)
    if moved:
        for name, parameter in policy.named_parameters():
            if is_adapter(name):
                torch.nn.init.normal_(parameter, std=0.3)
    return policy.eval()


BATCH = collate([trajectory([2, 3, 4], [5, 6, 7, 8]), trajectory([9], [10, 11])], 0, 1.0)


def statistics(policy) -> torch.Tensor:
    found = policy(BATCH)
    return torch.stack([found.logprobs_T, found.entropy_T, found.collision_T])


def test_adapters_change_nothing_before_they_are_trained():
    assert torch.equal(statistics(adapted()), statistics(tiny_policy().eval()))


def test_adapters_start_with_the_same_numbers_in_any_precision():
    single = initial_adapter("q_proj.lora_A.default.weight", torch.Size([2, 16]))
    torch.set_default_dtype(torch.float64)  # as Lightning does with precision=64-true
    try:
        double = initial_adapter("q_proj.lora_A.default.weight", torch.Size([2, 16]))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(single, double) and single.abs().max() > 0


def test_with_adapters_off_the_policy_is_its_base():
    policy, base = adapted(moved=True), tiny_policy().eval()
    with adapters_off(policy):
        assert torch.equal(statistics(policy), statistics(base))
    assert (statistics(policy) - statistics(base)).abs().max() > 1e-3


def test_only_adapters_have_a_gradient_also_after_the_reference_was_asked():
    policy = adapted(moved=True)
    with torch.no_grad(), adapters_off(policy):
        policy(BATCH)
    statistics(policy).sum().backward()
    for name, parameter in policy.named_parameters():
        assert (parameter.grad is not None) == is_adapter(name), name


def test_samplers_get_the_merged_weights():
    policy, plain = adapted(moved=True), tiny_policy(seed=1).eval()
    weights = dict(policy.named_weights())
    assert weights.keys() == dict(plain.named_weights()).keys()
    plain.model.load_state_dict(weights, strict=False)
    torch.testing.assert_close(statistics(policy), statistics(plain), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "targets, reason",
    [
        (["q_proj", "vproj"], "no layer is called vproj; did you mean v_proj?"),
        (["layers.0.self_attn.q_proj", "layers.9.self_attn.q_proj"], "called layers.9.self_attn"),
        (["self_attn"], "no layer is called self_attn"),
        ("q_proj,v_proj", "no layer is called q_proj,v_proj"),
        ("nothing", "no layer is called nothing; there are ['embed_tokens', 'q_proj'"),
        (".*(q_proj", "no regular expression"),
        ([], "is empty"),
    ],
)
def test_layers_that_do_not_exist_are_refused(targets, reason):
    with pytest.raises(ConfigError, match=re.escape(reason)):
        LoRA(target_modules=targets).add_to(tiny_policy())


@pytest.mark.parametrize(
    "targets", [["self_attn.q_proj", "up_proj"], r".*\.(q_proj|up_proj)", "all-linear"]
)
def test_layers_that_exist_have_adapters(targets):
    policy = tiny_policy()
    LoRA(rank=2, target_modules=targets).add_to(policy)
    layers = {name.split(".lora_")[0].split(".")[-1] for name in policy.state_dict()}
    assert layers >= {"q_proj", "up_proj"} and (len(layers) == 7) == (targets == "all-linear")


@pytest.mark.parametrize("layer", ["embed_tokens", "lm_head"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_adapters_on_embedding_or_head_are_refused(layer, tied):
    with pytest.raises(ConfigError, match="the embedding and the head cannot have adapters"):
        LoRA(target_modules=["q_proj", layer]).add_to(tiny_policy(tied=tied))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return fit(make(folder, *LORA, "objective=grpo", "objective.kl_coef=0.1"))


def test_a_checkpoint_holds_adapters_only(trained):
    (checkpoint,) = trained.folder.glob("checkpoints/*.ckpt")
    names = torch.load(checkpoint, weights_only=False)["state_dict"].keys()
    assert len(names) == 2 * 7 * 3 and all(map(is_adapter, names))


def test_the_base_is_the_reference_and_has_no_second_copy(trained):
    assert trained.model._reference == []
    divergence = read_scalars(trained.folder)["policy/kl_reference"]
    assert divergence[0][1] == 0 and divergence[-1][1] > 0


def test_a_run_resumes_from_adapters(trained, tmp_path):
    words = (*LORA, "objective=grpo", "objective.kl_coef=0.1")
    fit(make(tmp_path, *words, "trainer.max_epochs=1"))
    resumed = fit(make(tmp_path, *words, "ckpt_path=last"))
    expected = dict(trained.model.policy.named_weights())
    for name, weight in resumed.model.policy.named_weights():
        assert torch.equal(weight, expected[name]), name


OTHERS = {
    "{rank: 4, alpha: 8, target_modules: [q_proj]}": "of another policy, or of other adapters",
    "{rank: 8, alpha: 8}": "adapters are of rank 4, not 8: go on with model.lora.rank=4",
    "{rank: 4, alpha: 9}": r"trained with model\.lora\.alpha=8\.0, not 9\.0",
}


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


@pytest.mark.vllm
def test_vllm_samples_from_merged_adapters(tmp_path):
    words = (*LORA, "sampler=vllm", "model.max_sampler_gap_mean=1e-5", "model.on_sampler_gap=raise")
    cli = fit(make(tmp_path, *words, "model.optimizer.lr=4e-3", "trainer.max_epochs=3"))
    gaps = [value for _, value in read_scalars(cli.folder)["rollout/sampler_gap_max"]]
    assert len(gaps) == 3 and 0 < max(gaps) <= 1e-4


@pytest.mark.slow
def test_two_ranks_train_the_adapters_of_one_and_resume(tmp_path):
    words = recorded(tmp_path, *LORA, "objective=stapo", "trainer.max_epochs=2")
    one = run(tmp_path / "1", 1, *words)
    run(tmp_path / "2", 2, *words, "trainer.max_epochs=1")
    two = run(tmp_path / "2", 2, *words, *ALL, "ckpt_path=last")
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


@pytest.mark.slow
def test_adapters_learn_the_default_task(tmp_path):
    words = ["model.lora={rank: 16}", "model.optimizer.lr=4e-3", "trainer.max_epochs=10"]
    cli = fit(build(["objective=stapo", *words], tmp_path))
    (_, before), *_, (_, after) = read_scalars(cli.folder)["val/accuracy_greedy"]
    assert before < 0.6 and after >= 0.8
