"""A step's gradient does not depend on how its mini-batch was cut, padded or ordered."""

from __future__ import annotations

import pytest
import torch

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.draws import random_numbers
from stapo_pl.core.world import World
from stapo_pl.rollout.batching import collate_all, spread
from support.carriers import trajectory
from support.objectives import build_objective
from support.places import OBJECTIVES
from support.policies import tiny_policy

VOCABULARY = 40


def minibatch(generator: torch.Generator, count: int = 16):
    """Trajectories of unlike length; every third one has a gap that the policy did not write."""
    trajectories = []
    for i in range(count):
        prompt, response = (
            torch.randint(2, VOCABULARY, (n,), generator=generator).tolist()
            for n in (3 + i % 4, 4 + (7 * i) % 11)
        )
        mask = [True] * len(response)
        if i % 3 == 0:
            mask[1:3] = [False, False]
        advantage = torch.randn(1, generator=generator, dtype=torch.float64).item()
        trajectories.append(trajectory(prompt, response, advantage, mask=mask))
        trajectories[-1].seed = i
    return trajectories


def gradient(
    policy, old_policy, objective, micros, seeds, silenced: list[bool], skips: bool
) -> torch.Tensor:
    """The whole path of a step: scoring, selection, then backward one by one.

    If it skips nothing, silenced tokens go through the backward pass of the head too.
    """
    with torch.no_grad():
        old = [old_policy(micro) for micro in micros]
        current = TokenStatistics.cat([policy(micro) for micro in micros])
        reference = [old_policy(micro) for micro in micros]
    for micro, o, r in zip(micros, old, reference, strict=True):
        micro.tokens.old_logprobs_T, micro.tokens.reference_logprobs_T = o.logprobs_T, r.logprobs_T
    tokens = Tokens.cat([micro.tokens for micro in micros])
    tokens.random_T = random_numbers(seeds, 0, tokens.sequence_T)
    objective.set_weights(tokens, current, World(), 16)
    silenced.append(bool((tokens.weights_T == 0).any()))
    policy.zero_grad()
    parts = tokens.split([len(micro.tokens) for micro in micros])
    for micro, part in zip(micros, parts, strict=True):
        micro.tokens = part
        has_gradient_T = objective.has_gradient(part) if skips else None
        objective.loss(policy(micro, has_gradient_T), part)[0].backward()
    return torch.cat([p.grad.flatten() for p in policy.parameters()])


def pad_more(micro, longest: int):
    """The same micro-batch with a long sequence besides, of which no token teaches."""
    if longest:
        micro.input_ids_S = torch.cat([micro.input_ids_S, torch.full((longest,), 5)])
        micro.lengths.append(longest)
    return micro


@pytest.mark.parametrize("regularizers", [{"kl_coef": 0.1, "entropy_coef": 0.05}, {}])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradient_is_invariant(generator, name, regularizers):
    overrides = dict(regularizers)
    if "stapo" in name:
        overrides["tau_p"] = 0.05
    objective = build_objective(name, **overrides)
    policy, old_policy = tiny_policy(VOCABULARY, seed=1), tiny_policy(VOCABULARY, seed=1)
    packed = tiny_policy(VOCABULARY, seed=1)
    packed.pack()
    with torch.no_grad():
        for p in old_policy.parameters():
            p += 0.02 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    trajectories = minibatch(generator)

    def step(
        cut: int, order=None, padding: int = 0, policy=policy, skips: bool = True
    ) -> torch.Tensor:
        chosen = [trajectories[i] for i in order] if order is not None else trajectories
        parts = spread(chosen, cut)
        seeds = [one.seed for part in parts for one in part]
        micros = collate_all(parts, temperature=0.9)
        assert len(micros) == cut
        micros = [pad_more(micro, padding) for micro in micros]
        return gradient(policy, old_policy, objective, micros, seeds, silenced, skips)

    silenced: list[bool] = []
    whole = step(1)
    assert whole.abs().max() > 0
    assert silenced[-1] == (objective.selection is not None or name == "clip_cov")
    shuffled = torch.randperm(len(trajectories), generator=generator).tolist()
    others = {f"{cut} micro-batches": step(cut) for cut in (2, 4, 8)}
    others |= {
        "padded": step(2, padding=30),
        "ordered": step(1, shuffled),
        "both": step(4, shuffled, 25),
        "packed": step(1, policy=packed),
        "packed and cut": step(4, shuffled, 25, packed),
        "nothing skipped": step(1, skips=False),
    }
    for how, other in others.items():
        error = (other - whole).norm() / whole.norm()
        assert error < 1e-9, f"{how}: relative error {error:.2e}"
        worst = ((other - whole).abs() / whole.abs().max()).max()
        assert worst < 1e-9, how
