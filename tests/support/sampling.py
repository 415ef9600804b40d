"""Requests to a sampler of a small policy, and how far its answers are from the policy."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from stapo_pl.core.seeding import seed_for
from stapo_pl.core.types import Completion, Request
from stapo_pl.policy.model import Policy
from stapo_pl.samplers import (
    Room,
    Sampler,
)
from support.policies import tiny_policy

ENDS = (1, 7)


def build(sampler: Sampler, policy: Policy) -> Sampler:
    sampler.build(policy.model.config, ENDS, torch.device("cpu"), 64, Room())
    sampler.load_weights(policy.named_weights())
    return sampler


def generate(sampler, requests, decoding):
    return sampler.generate(requests, decoding, lambda ended: None)


REQUESTS = [Request([2 + i % 5] * (1 + i % 7), seed_for("test", i)) for i in range(40)]


def small_policy(tied: bool) -> Policy:
    """Of a shape that vLLM's CPU kernels know."""
    policy = tiny_policy(tied=tied, dtype=torch.float32, head_dim=32).eval()
    policy.model.config.architectures = ["Qwen3ForCausalLM"]
    return policy


@torch.no_grad()
def gap(
    policy: Policy, request: Request, completion: Completion, temperature: float = 1.0
) -> float:
    """Largest difference of a completion's log-probabilities from the policy's own."""
    ids = torch.tensor([request.prompt_ids + completion.token_ids])
    logp = F.log_softmax(policy.model(input_ids=ids).logits[0] / temperature, -1)
    start = len(request.prompt_ids)
    expected = logp[torch.arange(start - 1, ids.shape[1] - 1), ids[0, start:]]
    return (expected - torch.tensor(completion.logprobs)).abs().max().item()
