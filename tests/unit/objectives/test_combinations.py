"""Any selection goes with any objective, and the rules of a rollout with any loss."""

from __future__ import annotations

import inspect

import pytest

from stapo_pl import objectives
from stapo_pl.core.world import World
from stapo_pl.objectives import (
    S2T,
    STAPO,
    AllRare,
    HighEntropyRare,
    RandomRare,
    TopEntropy,
)
from support.carriers import random_minibatch
from support.objectives import build_objective
from support.places import OBJECTIVES


@pytest.mark.parametrize(
    "selection",
    [
        S2T(tau_p=0.1), AllRare(tau_p=0.1), HighEntropyRare(tau_p=0.1), RandomRare(tau_p=0.1),
        TopEntropy(),
    ],
    ids=lambda s: type(s).__name__,
)  # fmt: skip
@pytest.mark.parametrize("name", OBJECTIVES)
def test_any_selection_goes_with_any_objective(generator, name, selection):
    objective = build_objective(name)
    objective.selection = selection
    tokens, statistics = random_minibatch(generator, sequences=30)
    objective.set_weights(tokens, statistics, World(), 16)
    keeps_T = selection.select(tokens, statistics, World())
    kept_T = tokens.weights_T > 0
    assert not keeps_T.all() and not (kept_T & ~keeps_T).any()
    # Clip-Cov takes one token of all, which may be one that the selection silences.
    assert (keeps_T & ~kept_T).sum() <= (name == "clip_cov")
    loss, metrics = objective.loss(statistics, tokens)
    assert loss.isfinite()
    assert metrics["silenced_fraction"].tolist() == (~kept_T).tolist()
    # What counts as rare is the selection's own affair, and the paper's where it has no say.
    bound = 0.002 if isinstance(selection, TopEntropy) else 0.1
    rare_T = (tokens.advantages_T > 0) & (statistics.logprobs_T.exp() < bound)
    assert metrics["rare_fraction"].tolist() == rare_T.tolist()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_yaml_sets_what_its_class_has_as_default(name):
    """So that naming the class, in Python or as a word, is the recipe; v1 is STAPO otherwise."""
    built = build_objective(name)
    expected = type(built)()
    if name == "stapo_v1":
        expected = STAPO(selection=S2T(scope="all", quantile=0.8))
    assert built == expected
    assert all(p.default is not p.empty for p in inspect.signature(type(built)).parameters.values())
    assert type(built).__name__ in objectives.__all__
