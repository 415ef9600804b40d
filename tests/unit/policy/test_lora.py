"""Adapters are trained, the base is frozen and is the reference."""

from __future__ import annotations

import re

import pytest
import torch

from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.lora import LoRA, adapters_off, initial_adapter
from stapo_pl.policy.model import is_adapter
from stapo_pl.rollout.batching import collate
from support.carriers import trajectory
from support.policies import tiny_policy


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
