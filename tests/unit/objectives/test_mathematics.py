"""The paper's statements about one token's gradient, by autograd in float64."""

from __future__ import annotations

import math

import pytest
import torch

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.objectives import GRPO


@pytest.mark.parametrize("vocabulary", [2, 5, 100])
@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
def test_logit_gradient_norm_is_exact_and_within_both_bounds(generator, vocabulary, scale):
    for _ in range(100):
        logits = scale * torch.randn(vocabulary, generator=generator, dtype=torch.float64)
        logits.requires_grad_()
        old = logits.detach() + 0.2 * torch.randn(
            vocabulary, generator=generator, dtype=torch.float64
        )
        y = torch.randint(vocabulary, (1,), generator=generator)
        advantage = torch.randn(1, generator=generator, dtype=torch.float64)
        logp = logits.log_softmax(-1)
        p = logp.exp().detach()
        current = TokenStatistics(logp[y], -(p * p.log()).sum()[None], p.square().sum()[None])
        tokens = Tokens(
            y, torch.zeros(1), advantage, logp[y], old_logprobs_T=old.log_softmax(-1)[y]
        )
        objective = GRPO()
        losses_T, _ = objective.token_loss(current, tokens)
        (norm_squared,) = torch.autograd.grad(losses_T.sum(), logits)
        norm_squared = norm_squared.square().sum().item()

        ratio = (logp[y] - tokens.old_logprobs_T).exp().item()
        a, pi, c, h = (
            advantage.item(),
            p[y].item(),
            p.square().sum().item(),
            current.entropy_T.item(),
        )
        clipped = (a > 0 and ratio > 1.2) or (a < 0 and ratio < 0.8)
        w2 = 0.0 if clipped else (ratio * a) ** 2
        c_v = (vocabulary - 1) / (vocabulary * math.log(vocabulary) ** 2)
        assert norm_squared == pytest.approx(w2 * (1 - 2 * pi + c), rel=1e-9, abs=1e-12)
        assert w2 * (1 - 2 * pi + math.exp(-h)) <= norm_squared + 1e-12
        assert norm_squared <= w2 * (2 - 2 * pi - c_v * h**2) + 1e-12
