"""Sequences that teach nothing: which have a pass, and for how many tokens they stand in curves."""

from __future__ import annotations

import math
import random
from statistics import mean, stdev

import pytest

from stapo_pl.core.types import Rollout
from stapo_pl.core.world import World
from stapo_pl.objectives import DAPO, GRPO, S2T, TopEntropy
from stapo_pl.rollout.batching import cut
from stapo_pl.rollout.pruning import Pruning
from stapo_pl.rollout.sizes import BatchSizes
from support.carriers import trajectory
from support.objectives import build_objective
from support.places import OBJECTIVES
from support.steps import VOCABULARY, Passes, gradient


def responses(count: int = 24, teaching: int = 3, seed: int = 0):
    """Of unlike lengths; every n-th one teaches."""
    draw, made = random.Random(seed), []
    for i in range(count):
        advantage = draw.gauss(0, 1) if i % teaching == 0 else 0.0
        prompt, response = (
            [draw.randrange(2, VOCABULARY) for _ in range(n)]
            for n in (3 + i % 4, draw.randint(1, 20))
        )
        made.append(trajectory(prompt, response, advantage))
        made[-1].place = made[-1].seed = i
    return made


def tokens_of(trajectories) -> int:
    return sum(len(t.completion.token_ids) for t in trajectories)


def test_what_teaches_is_kept_and_weights_add_up_to_all_tokens():
    for seed in range(50):
        made = responses(seed=seed)
        Pruning(0.1, seed).leave_out(made, rollout=seed, mini_batch=0)
        for one in made:
            assert one.curve_weight == 1 if one.advantage else one.curve_weight != 1
        total = sum(one.curve_weight * len(one.completion.token_ids) for one in made)
        assert total == pytest.approx(tokens_of(made))
        drawn = [one for one in made if one.curve_weight and not one.advantage]
        assert drawn and tokens_of(drawn) < 0.3 * tokens_of(made)


def test_weighted_means_are_unbiased():
    """A value that grows with the length of its response would show a bias."""
    made = responses(60)
    values = [len(one.completion.token_ids) + 0.1 * i for i, one in enumerate(made)]
    total = tokens_of(made)
    full = sum(v * len(t.completion.token_ids) for v, t in zip(values, made, strict=True)) / total
    estimates = []
    for seed in range(200):
        Pruning(0.1, seed).leave_out(made, rollout=3, mini_batch=1)
        estimates.append(
            sum(
                v * t.curve_weight * len(t.completion.token_ids)
                for v, t in zip(values, made, strict=True)
            )
            / total
        )
    error = stdev(estimates) / math.sqrt(len(estimates))
    assert error > 0 and abs(mean(estimates) - full) < 4 * error


def test_nothing_is_left_out_where_little_would_be_saved():
    for made in (responses(6, teaching=1), responses(1, teaching=2), responses(8)[1:2], []):
        Pruning(1.0, 0).leave_out(made, rollout=0, mini_batch=0)
        assert all(one.curve_weight == 1 for one in made)
    # If a selection looks at all tokens, curves need no sample.
    passed, left_out = Pruning(0.5, 0, needs_sample=False).leave_out(made, 0, 0)
    assert not passed and not left_out
    made = responses(6)
    passed, left_out = Pruning(0.5, 0, needs_sample=False).leave_out(made, 0, 0)
    assert all(one.advantage for one in passed) and not any(one.advantage for one in left_out)
    assert len(passed) + len(left_out) == 6 and {one.curve_weight for one in made} == {1}
    # A response of which no token teaches needs no pass either.
    filtered = [trajectory([1], [2] * 4, 1.0, mask=[False] * 4) for _ in range(3)]
    Pruning(0.0, 0).leave_out(filtered, rollout=0, mini_batch=0)
    assert sum(one.curve_weight == 0 for one in filtered) >= 2


@pytest.mark.parametrize("aggregation", ["token-mean", "seq-mean-token-mean", None])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_gradient_is_that_of_all_sequences(generator, name, aggregation):
    overrides = {"aggregation": aggregation} if aggregation else {}
    objective = build_objective(name, **overrides | ({"tau_p": 0.05} if "stapo" in name else {}))
    if not objective.can_prune:
        # Their penalties, their baselines and their teacher give tokens a gradient where the
        # advantage of the sequence is 0.
        assert name in ("dro", "kl_cov", "opd", "otb")
        return
    passes, made = Passes(generator), responses()
    alone = [[one] for one in made]
    whole, loss = gradient(objective, passes, alone, None, 1)
    all_sequences, passes.sequences = passes.sequences, 0
    assert whole.abs().max() > 0 and all_sequences == len(made)
    for micro_batches in (1, 3):
        pruned, its_loss = gradient(objective, passes, alone, Pruning(0.05, 1), micro_batches)
        assert (pruned - whole).norm() / whole.norm() < 1e-9
        assert its_loss == pytest.approx(loss, abs=1e-12)
    assert passes.sequences < 2 * 0.6 * all_sequences


def test_ranks_have_as_many_passes_whatever_they_leave_out():
    """A rank with fewer passes than the others would let them wait for ever."""
    for made, pruning, count in (
        (responses(4, teaching=1), Pruning(0.05, 1, needs_sample=False), 3),
        (responses(8), Pruning(0.05, 1, needs_sample=False), 3),
        (responses(8), None, 0),
    ):
        sizes, rollout = BatchSizes(8, 2, 8, 1), Rollout(0, [[one] for one in made])
        (mini_batch,) = cut(rollout, 0, 0, sizes, 3, 1.0, pruning, World()).mini_batches
        assert (len(mini_batch.micro_batches), len(mini_batch.left_out)) == (3, count)


def test_what_allows_pruning_is_declared():
    assert GRPO().can_prune and DAPO().can_prune
    assert not GRPO(kl_coef=0.1).can_prune and not GRPO(entropy_coef=0.1).can_prune

    class Own(GRPO):
        def token_loss(self, current, tokens):
            return current.logprobs_T, {}

    class Inherits(GRPO):
        clip_low = 0.1

    class Declares(Own):
        zero_advantage_is_silent = True

    class Adds(GRPO):
        def loss(self, current, tokens):
            return super().loss(current, tokens)

    assert not Own().can_prune and Inherits().can_prune and Declares().can_prune
    assert not Adds().can_prune
    needs = [S2T(scope="rare"), S2T(scope="all"), TopEntropy()]
    assert [one.needs_all_statistics for one in needs] == [False, True, True]
