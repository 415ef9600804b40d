"""How much a run computes: operations beside PyTorch's count, passes beside those of real runs."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stapo_pl.core.errors import ConfigError
from stapo_pl.objectives import GRPO
from stapo_pl.policy.lora import LoRA
from stapo_pl.policy.model import Policy
from stapo_pl.rollout.sizes import BatchSizes
from stapo_pl.training.workload import Estimate, estimate_work, forward_flops, passes_of_a_step
from support.objectives import build_objective
from support.policies import tiny_model, tiny_policy

SIZES = BatchSizes(8, 4, 4, 1)


@pytest.mark.parametrize("length", [16, 50])
def test_operations_are_those_that_pytorch_counts(length):
    policy = tiny_policy()
    policy.model.set_attn_implementation("eager")  # PyTorch does not count the others on a CPU
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        policy.model(torch.arange(length)[None] % 40)
    config = policy.model.config
    width = config.num_attention_heads * config.head_dim
    # PyTorch counts attention to the tokens that follow, too.
    hidden = 2 * config.num_hidden_layers * width * (length - 1)
    assert counter.get_total_flops() / length == forward_flops(config, length) + hidden


def test_references_teachers_and_checkpoints_add_passes():
    plain = passes_of_a_step(GRPO(), SIZES, "recompute")
    assert passes_of_a_step(GRPO(kl_coef=0.1), SIZES, "recompute") == plain + 1
    assert passes_of_a_step(GRPO(), SIZES, "recompute", checkpoints=True) == plain + 1
    # A token advantage asks for statistics before the first update, and the teacher has a pass.
    assert passes_of_a_step(build_objective("opd"), SIZES, "recompute") == plain + 0.5 + 1


@pytest.mark.parametrize("adapters, passes", [(False, 3), (True, 2)])
def test_operations_of_an_update(adapters, passes):
    """Frozen weights have no gradient, and those of adapters are small."""
    policy = Policy(tiny_model(head_dim=64, dtype=torch.float32))
    policy.model.set_attn_implementation("eager")
    if adapters:
        LoRA(rank=1).add_to(policy)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        forward = policy.model(torch.arange(9)[None]).logits
    once = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        policy.model(torch.arange(9)[None]).logits.sum().backward()
    assert forward.shape == (1, 9, 40)
    assert counter.get_total_flops() / once == pytest.approx(passes, abs=0.2)
    planned = passes_of_a_step(GRPO(), BatchSizes(4, 4, 4, 1), "recompute", adapters=adapters)
    assert planned == passes


def test_work_adds_up():
    config = tiny_policy().model.config
    estimate = Estimate(response_tokens=30, sampler_tokens_per_s=100, mfu=0.5, gpu_tflops=1e-6)
    work = estimate_work(config, SIZES, 10, 20, 99, 4.0, estimate)
    assert (work.steps, work.step_tokens) == (20, 4 * 4 * 50)
    assert work.step_flops == 800 * 4 * forward_flops(config, 50)
    assert work.update_days == pytest.approx(20 * work.step_flops / 0.5e6 / 86400)
    assert work.sampling_days == pytest.approx(10 * 8 * 4 * 30 / 100 / 86400)
    longest = estimate_work(config, SIZES, 10, 20, 99, 4.0, Estimate())
    assert longest.step_tokens == 4 * 4 * 119
    assert "8 GPU(s)" in work.describe(8) and "rounds" not in work.describe(8)
    assert "0.5 of 1e-06 TFLOPS and 100 sampled tokens a second" in work.describe(8)
    assert "GPU" not in work.describe(None)
    assert "prompt has 20 tokens and each response 30: by" in work.describe(None)
    again = estimate_work(config, SIZES, 10, 20, 99, 4.0, estimate, sampling_rounds=3)
    assert "nor further rounds of dynamic sampling (up to 2)" in again.describe(8)
    asked = Estimate(prompt_tokens=10)
    assert estimate_work(config, SIZES, 10, 20, 99, 4.0, asked).step_tokens == 4 * 4 * 109
    with pytest.raises(ConfigError, match=r"estimate.response_tokens=30 is more than .* is 20"):
        estimate_work(config, SIZES, 10, 20, 20, 4.0, estimate)


@pytest.mark.parametrize(
    "arguments", [{"mfu": 0}, {"mfu": 1.1}, {"gpu_tflops": 0}, {"response_tokens": 0}]
)
def test_an_estimate_out_of_range_is_refused(arguments):
    with pytest.raises(ConfigError, match=rf"estimate.{next(iter(arguments))} must .*, got"):
        Estimate(**arguments)
