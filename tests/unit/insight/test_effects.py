"""Shares of classes, cosines and pushes are those of a plain loop over gradients of logits."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional as F

from stapo_pl.core.batches import MiniBatch, Tokens, TokenStatistics
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.world import World
from stapo_pl.insight import shadows
from stapo_pl.insight.classes import (
    CLASSES,
    NO_SIGNAL,
    SPURIOUS,
    class_shares,
    classify,
    entropy_threshold,
)
from stapo_pl.insight.effects import effects_of
from stapo_pl.insight.figures import entropies, silenced_and_kept
from stapo_pl.objectives import DAPO, GRPO, S2T, STAPO, TopEntropy
from stapo_pl.objectives.selections import rare_tokens
from support.objectives import build_objective
from support.places import OBJECTIVES

TEMPERATURE, VOCABULARY, COUNT = 0.8, 12, 60


@dataclass
class Case:
    """Random tokens of a mini-batch, and the logits that they were drawn from."""

    logits: torch.Tensor
    tokens: Tokens

    def statistics(self, logits: torch.Tensor | None = None) -> TokenStatistics:
        logits = self.logits if logits is None else logits
        logp = F.log_softmax(logits / TEMPERATURE, -1)
        own = logp.gather(-1, self.tokens.token_ids_T[:, None])[:, 0]
        return TokenStatistics(own, -(logp.exp() * logp).sum(-1), logp.exp().square().sum(-1))

    def gradients(self, objective) -> torch.Tensor:
        """Of the loss with respect to the logits, [T, V]."""
        leaf = self.logits.clone().requires_grad_()
        objective.loss(self.statistics(leaf), self.tokens)[0].backward()
        return leaf.grad


def case(generator, objective) -> Case:
    draw = dict(generator=generator, dtype=torch.float64)
    logits = 3 * torch.randn(COUNT, VOCABULARY, **draw)
    sequence = torch.arange(COUNT) // 6
    advantages = torch.randn(COUNT // 6, **draw)
    advantages[1] = 0
    tokens = Tokens(
        token_ids_T=torch.randint(0, VOCABULARY, (COUNT,), generator=generator),
        sequence_T=sequence,
        advantages_T=advantages[sequence],
        sampler_logprobs_T=torch.zeros(COUNT, dtype=torch.float64),
        random_T=torch.arange(COUNT),
    )
    made = Case(logits, tokens)
    statistics = made.statistics()
    tokens.old_logprobs_T = statistics.logprobs_T + 0.2 * torch.randn(COUNT, **draw)
    tokens.sampler_logprobs_T = tokens.old_logprobs_T
    objective.set_weights(tokens, statistics, World(), 30)
    return made


def objective_of(name: str):
    return build_objective(name, kl_coef=0, **({"tau_p": 0.05} if "stapo" in name else {}))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_class_shares_are_those_of_a_plain_loop(generator, name):
    objective = objective_of(name)
    made = case(generator, objective)
    statistics, tokens, tau_p, tau_h = made.statistics(), made.tokens, 0.05, 0.6
    effects = effects_of(objective, statistics, tokens, TEMPERATURE, World())
    gradients = made.gradients(objective)
    assert gradients.abs().max() > 0
    squares = gradients.square().sum(-1)
    torch.testing.assert_close(effects.squared_norms_T, squares, rtol=1e-9, atol=1e-15)
    losses = objective.weighted_losses(statistics, tokens)[0].abs()
    expected = {key: [0.0, 0.0, 0.0] for key in (*CLASSES, NO_SIGNAL)}
    for t in range(COUNT):
        advantage = tokens.advantages_T[t]
        p = "low" if statistics.logprobs_T[t].exp() < tau_p else "high"
        entropy = "low" if statistics.entropy_T[t] < tau_h else "high"
        sign = "positive" if advantage > 0 else "negative"
        key = f"{p}_p_{entropy}_H_{sign}" if advantage else NO_SIGNAL
        for column, value in enumerate((1, losses[t].item(), squares[t].item())):
            expected[key][column] += value
    expected[NO_SIGNAL][0] += 7
    class_T = classify(tokens, statistics, tau_p, tau_h)
    found = class_shares(class_T, effects, 7, World())
    totals = COUNT + 7, losses.sum().item(), squares.sum().item()
    for key, values in expected.items():
        for column, value, total in zip(
            ("share", "loss_share", "gradient_share"), values, totals, strict=True
        ):
            share = found[f"tokens/{key}/{column}"]
            assert share == pytest.approx(value / total, rel=1e-9, abs=1e-12)
    assert sum(v for k, v in found.items() if k.endswith("/share")) == pytest.approx(1)
    pushes = sum(v for k, v in found.items() if k.endswith("/entropy_push"))
    assert pushes == pytest.approx(effects.pushes_T.sum().item())


def test_the_push_is_the_slope_of_the_entropy_in_a_natural_gradient_step(generator):
    """The Fisher matrix of the softmax maps e_y / p(y) to the gradient of log p(y)."""
    objective = objective_of("dapo")
    made = case(generator, objective)
    statistics = made.statistics()
    effects = effects_of(objective, statistics, made.tokens, TEMPERATURE, World())
    y = made.tokens.token_ids_T[:, None]
    # A step against the gradient moves the logit of y by -g / p(y) for each unit of the learning
    # rate. The rates are such that it moves by 1e-5 here.
    p_T = statistics.logprobs_T.exp()
    rate_T = 1e-5 * p_T / effects.slopes_T.abs().clamp(min=1e-9)
    direction = torch.zeros_like(made.logits)
    direction.scatter_(1, y, (-effects.slopes_T * rate_T / p_T)[:, None])
    scores = made.logits / TEMPERATURE

    def entropy(sign: int) -> torch.Tensor:
        return made.statistics((scores + sign * direction) * TEMPERATURE).entropy_T

    slope_T, has_slope = (entropy(1) - entropy(-1)) / (2 * rate_T), effects.slopes_T != 0
    assert has_slope.sum() > COUNT / 2
    likely = has_slope & (p_T > 1e-4)  # differences of smaller ones are lost in the rounding
    torch.testing.assert_close(slope_T[likely], effects.pushes_T[likely], rtol=1e-4, atol=1e-9)
    rare = (statistics.logprobs_T < -4) & (made.tokens.advantages_T > 0)
    assert rare.any() and (effects.pushes_T[rare] >= 0).all()


def test_silenced_tokens_of_stapo_are_the_class_of_spurious_ones(generator):
    objective = STAPO(selection=S2T(tau_p=0.05))
    made = case(generator, objective)
    statistics = made.statistics()
    rare_T = rare_tokens(made.tokens, statistics, 0.05)
    tau_h = objective.selection.threshold(rare_T, statistics, World())
    class_T = classify(made.tokens, statistics, 0.05, tau_h)
    silenced = made.tokens.weights_T == 0
    assert silenced.any() and torch.equal(class_T == CLASSES.index(SPURIOUS), silenced)


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (STAPO(selection=S2T(tau_p=0.05)), DAPO()),
        (GRPO(), TopEntropyDAPO := DAPO(selection=TopEntropy())),
        (TopEntropyDAPO, STAPO(selection=S2T(tau_p=0.05, quantile=1.0))),
    ],
)
def test_a_shadow_is_compared_as_whole_gradients_are(generator, ours, theirs):
    made = case(generator, ours)
    statistics, world, passed = made.statistics(), World(), COUNT - 6
    own = made.tokens.split([passed, 6])[0]
    effects = effects_of(
        ours, TokenStatistics.split(statistics, [passed, 6])[0], own, TEMPERATURE, World()
    )
    shadow = shadows.cast(theirs, made.tokens, statistics, passed, TEMPERATURE, 30, world)
    kept = own.weights_T != 0
    found = shadows.compare(shadow, effects, kept, COUNT, world)
    a = made.gradients(ours)[:passed]
    theirs.set_weights(made.tokens, statistics, world, 30)
    b = made.gradients(theirs)[:passed]
    silenced = made.tokens.weights_T == 0
    cosine = (a * b).sum() / (a.norm() * b.norm())
    assert found["cosine"] == pytest.approx(cosine.item(), rel=1e-9)
    assert 0 < found["cosine"] < 1
    assert found["silenced_fraction"] == pytest.approx(silenced.double().mean().item())
    both, one = (~kept & silenced[:passed]).sum(), (~kept | silenced[:passed]).sum()
    assert found["jaccard"] == pytest.approx((both / one).item() if one else 1)
    selection, theirs.selection = theirs.selection, None
    theirs.set_weights(made.tokens, statistics, world, 30)
    full = made.gradients(theirs)[:passed].square().sum(-1)
    theirs.selection = selection
    dropped = full[silenced[:passed]].sum() / full.sum()
    assert found["dropped_gradient"] == pytest.approx(dropped.item(), rel=1e-9, abs=1e-12)


def test_a_loss_with_a_gradient_through_the_entropy_is_refused_by_name(generator):
    objective = DAPO(entropy_coef=0.01)
    made = case(generator, objective)
    with pytest.raises(ConfigError, match=r"DAPO: .* gradient through the entropy"):
        effects_of(objective, made.statistics(), made.tokens, TEMPERATURE, World())

    class Own(DAPO):
        def loss(self, current, tokens):
            return super().loss(current, tokens)

    with pytest.raises(ConfigError, match="Own: it overrides `loss`"):
        effects_of(Own(), made.statistics(), made.tokens, TEMPERATURE, World())
    with pytest.raises(ConfigError, match=r"insight\.shadows: mine has entropy_coef=0\.1"):
        shadows.check_shadow("mine", DAPO(entropy_coef=0.1))
    with pytest.raises(ConfigError, match=r"insight\.shadows: mine needs a reference"):
        shadows.check_shadow("mine", DAPO(kl_coef=0.1))


def test_figures_of_groups_are_their_means(generator):
    objective = STAPO(selection=S2T(tau_p=0.05))
    made = case(generator, objective)
    statistics, tokens = made.statistics(), made.tokens
    effects = effects_of(objective, statistics, tokens, TEMPERATURE, World())
    found = silenced_and_kept(tokens, statistics, effects, World())
    for group, mask in (("silenced", tokens.weights_T == 0), ("kept", tokens.weights_T != 0)):
        assert found[f"tokens/{group}/p"] == pytest.approx(
            statistics.logprobs_T[mask].exp().mean().item()
        )
        assert found[f"tokens/{group}/entropy"] == pytest.approx(
            statistics.entropy_T[mask].mean().item()
        )
    correct = torch.arange(COUNT // 6) % 3 == 0
    found = entropies(tokens, statistics, correct, World())
    right = correct[tokens.sequence_T]
    assert found["policy/entropy_right"] == pytest.approx(statistics.entropy_T[right].mean().item())
    assert found["policy/entropy_wrong"] == pytest.approx(
        statistics.entropy_T[~right].mean().item()
    )
    for percent in (50, 80, 90, 99):
        expected = statistics.entropy_T.quantile(percent / 100).item()
        assert found[f"policy/entropy_p{percent}"] == pytest.approx(expected)
    nobody = entropies(tokens, statistics, torch.ones_like(correct), World())
    assert "policy/entropy_wrong" not in nobody


@pytest.mark.parametrize("sign", ["positive", "negative", "both"])
@pytest.mark.parametrize("source", ["current", "behavior"])
def test_tau_h_is_that_of_right_answers_and_of_the_policy_that_s2t_looks_at(
    generator, source, sign
):
    case_of_now, case_of_rollout = case(generator, GRPO()), case(generator, GRPO())
    tokens = case_of_now.tokens
    seen = {"current": case_of_now.statistics(), "behavior": case_of_rollout.statistics()}
    mini_batch = MiniBatch(None, [], [], behavior=seen["behavior"], selected_by=seen["current"])
    passed = TokenStatistics.of_certain(len(tokens), torch.device("cpu"))

    def tau_h(*selections) -> float:
        objective = GRPO(selection=[*selections])
        return entropy_threshold(objective, mini_batch, tokens, passed, World())

    entropy_T = seen[source].entropy_T[rare_tokens(tokens, seen[source], 0.2)]
    expected = entropy_T.quantile(0.5).item()
    own = S2T(tau_p=0.2, quantile=0.5, statistics=source, sign=sign)
    assert tau_h(TopEntropy(), own) == pytest.approx(expected)
    assert tau_h(TopEntropy()) is None  # nothing is rare in the pass with gradient
