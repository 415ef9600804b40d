"""What an objective does beyond the losses that the golden file covers."""

from __future__ import annotations

import pytest
import torch

from stapo_pl.core.batches import TokenStatistics
from stapo_pl.core.errors import ConfigError, TrainingError
from stapo_pl.core.world import World
from stapo_pl.objectives import GRPO, S2T, DynamicSampling, Objective, RolloutRules
from stapo_pl.objectives.kl import MAX_K3, MAX_LOG_RATIO, clamped_log_ratio, kl_divergence
from support.carriers import random_minibatch
from support.objectives import build_objective
from support.places import OBJECTIVES


def weighed(objective, generator, **kwargs):
    tokens, statistics = random_minibatch(generator, **kwargs)
    objective.set_weights(tokens, statistics, World(), 12)
    current = TokenStatistics(*(x.clone().requires_grad_() for x in vars(statistics).values()))
    return tokens, current


@pytest.mark.parametrize("name", OBJECTIVES)
def test_silenced_tokens_have_no_gradient_and_the_others_keep_theirs(generator, name):
    objective = build_objective(name, **({"tau_p": 0.1} if "stapo" in name else {}))
    tokens, current = weighed(objective, generator, sequences=30)
    objective.loss(current, tokens)[0].backward()
    silenced = tokens.weights_T == 0
    assert silenced.any() == (objective.selection is not None or name == "clip_cov")
    assert not current.logprobs_T.grad[silenced].any()
    assert current.logprobs_T.grad[~silenced].any()
    assert torch.equal(objective.has_gradient(tokens), ~silenced)


def test_regularizers_reach_silenced_tokens(generator):
    objective = build_objective("stapo", tau_p=0.1, kl_coef=0.3, entropy_coef=0.2)
    tokens, current = weighed(objective, generator, sequences=30)
    objective.loss(current, tokens)[0].backward()
    silenced = tokens.weights_T == 0
    assert objective.has_gradient(tokens) is None
    n = len(tokens)
    ratio = (tokens.reference_logprobs_T - current.logprobs_T.detach()).exp()
    torch.testing.assert_close(
        current.logprobs_T.grad[silenced], (0.3 / n * (1 - ratio))[silenced], rtol=1e-12, atol=0
    )
    torch.testing.assert_close(current.entropy_T.grad, torch.full_like(ratio, -0.2 / n))


class SequenceRatio(GRPO):
    """As GSPO: every token of a sequence shares the mean log-ratio."""

    def token_loss(self, current, tokens):
        log_ratio = current.logprobs_T - tokens.old_logprobs_T
        size = int(tokens.sequence_T.max()) + 1
        total = torch.zeros(size, dtype=log_ratio.dtype).index_add(0, tokens.sequence_T, log_ratio)
        return -(total[tokens.sequence_T] * tokens.advantages_T), {}


def test_silencing_holds_where_the_ratio_is_the_sequences(generator):
    objective = SequenceRatio(selection=S2T(tau_p=0.1))
    tokens, current = weighed(objective, generator, sequences=30)
    objective.loss(current, tokens)[0].backward()
    silenced = tokens.weights_T == 0
    assert silenced.any() and not current.logprobs_T.grad[silenced].any()


def test_a_silenced_token_may_have_an_infinite_loss(generator):
    objective = build_objective("stapo", tau_p=0.1)
    tokens, current = weighed(objective, generator, sequences=30)
    tokens.advantages_T[tokens.weights_T == 0] = torch.inf
    loss, _ = objective.loss(current, tokens)
    loss.backward()
    assert loss.isfinite() and current.logprobs_T.grad.isfinite().all()


def test_a_far_off_token_stays_finite(generator):
    far = torch.tensor([-1e4], dtype=torch.float64)
    assert kl_divergence(far, torch.zeros(1), "k3").item() == MAX_K3
    assert clamped_log_ratio(torch.zeros(1), far).item() == MAX_LOG_RATIO


@pytest.mark.parametrize(
    "arguments",
    [
        {"clip_low": 1.5}, {"clip_high": -0.1}, {"dual_clip": 0.5}, {"kl_coef": -1.0},
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        GRPO(**arguments)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_k1_is_refused_as_a_term_of_the_loss(name):
    """Its gradient does not vanish where policy and reference are one; those of the others do."""
    with pytest.raises(ConfigError, match=r"kl_estimator=k1 .* noise .* use k2, k3 or abs"):
        build_objective(name, kl_coef=0.1, kl_estimator="k1")
    assert build_objective(name, kl_estimator="k1").kl_estimator == "k1"  # without the term
    logprobs = torch.tensor([-3.0, -0.1], requires_grad=True)
    for estimator, slope in (("k1", 1.0), ("k2", 0.0), ("k3", 0.0), ("abs", 0.0)):
        divergence = kl_divergence(logprobs, logprobs.detach(), estimator)
        (gradient,) = torch.autograd.grad(divergence.sum(), logprobs)
        assert gradient.tolist() == [slope] * 2
        if estimator != "k1":
            build_objective(name, kl_coef=0.1, kl_estimator=estimator)


def test_k1_is_refused_in_objectives_of_ones_own():
    with pytest.raises(ConfigError, match="kl_estimator=k1"):
        SequenceRatio(kl_coef=0.1, kl_estimator="k1")


def test_dynamic_sampling_is_checked():
    with pytest.raises(ValueError, match="max_rounds"):
        DynamicSampling(max_rounds=0)
    with pytest.raises(ValueError, match="on_exhausted"):
        DynamicSampling(on_exhausted="stop")


def test_rules_out_of_range_are_refused():
    with pytest.raises(ValueError, match="overlong_buffer must lie"):
        RolloutRules(overlong_buffer=1.0)
    with pytest.raises(ValueError, match=r"advantage must be one of grpo, .*rloo.*, got ppo"):
        RolloutRules(advantage="ppo")


def test_token_metrics(generator):
    objective = GRPO()
    tokens, current = weighed(objective, generator)
    tokens.old_logprobs_T = current.logprobs_T.detach() - torch.tensor(1.5).log()
    _, metrics = objective.token_loss(current, tokens)
    assert metrics["clip_fraction_high"].tolist() == (tokens.advantages_T > 0).tolist()
    assert not metrics["clip_fraction_low"].any()
    assert metrics["ratio_max"].max().item() == pytest.approx(1.5)


def test_an_objective_must_have_a_token_loss():
    with pytest.raises(TypeError, match="token_loss"):
        Objective()


@pytest.mark.parametrize(
    "change, found",
    [
        (lambda losses_T, metrics: (losses_T.mean(), metrics), r"losses of shape \[\]"),
        (lambda losses_T, metrics: (losses_T[:1], metrics), r"losses of shape \[1\]"),
        (lambda losses_T, metrics: losses_T, "a Tensor"),
        (lambda losses_T, metrics: (losses_T, None), "a tuple"),
    ],
)
def test_a_loss_that_is_not_one_of_each_token_is_refused(generator, change, found):
    class Mine(GRPO):
        def token_loss(self, current, tokens):
            return change(*super().token_loss(current, tokens))

    tokens, current = weighed(Mine(), generator)
    with pytest.raises(TrainingError, match=rf"Mine.token_loss must .* it returned {found}"):
        Mine().loss(current, tokens)
