"""Selections of rare tokens equal plain loops, and are the same however a run is laid out."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.world import World
from stapo_pl.objectives import (
    GRPO,
    GSPO,
    S2T,
    AllRare,
    HighEntropyRare,
    JustRL,
    RandomRare,
    RareSelection,
    TopEntropy,
)
from stapo_pl.rollout.pruning import Pruning
from support.carriers import random_minibatch
from support.commands import fork
from support.deciding import decided, groups, weights

SIGNS = {"positive": (1,), "negative": (-1,), "both": (1, -1)}


def silenced(selection, tokens, statistics) -> list[bool]:
    return (~selection.select(tokens, statistics, World())).tolist()


def rare_rows(tokens, statistics, tau_p: float, sign: int) -> list[int]:
    advantages, logprobs = tokens.advantages_T.tolist(), statistics.logprobs_T.exp().tolist()
    return [t for t, (a, p) in enumerate(zip(advantages, logprobs, strict=True))
            if sign * a > 0 and p < tau_p]  # fmt: skip


def loop_below(rows: list[int], entropies: list[float], q: float, of: list[float]) -> set[int]:
    """The rows whose entropy is below the q-quantile of some entropies."""
    ordered = sorted(of)
    if not ordered:
        return set()
    position = q * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    tau_h = ordered[below] + (position - below) * (ordered[above] - ordered[below])
    return {t for t in rows if entropies[t] < tau_h}


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("scope, q", [("rare", 0.75), ("all", 0.8)])
def test_what_is_silenced_equals_a_plain_loop(generator, sign, scope, q):
    """Each sign has candidates, a threshold and a number of its own."""
    counts = {"low": 0, "high": 0, "other": 0}
    for i in range(300):
        tokens, statistics = random_minibatch(generator, sequences=1 + i % 6)
        tau_p = (0.002, 0.05, 1e-4)[i % 3]
        entropies = statistics.entropy_T.tolist()
        low, rare, drawn = set[int](), set[int](), 0
        for one in SIGNS[sign]:
            rows = rare_rows(tokens, statistics, tau_p, one)
            of = [entropies[t] for t in rows] if scope == "rare" else entropies
            low |= loop_below(rows, entropies, q, of)
            rare |= set(rows)
            drawn += round(0.4 * len(rows))
        how = {"tau_p": tau_p, "sign": sign}
        by_entropy = how | {"scope": scope, "quantile": q}
        for selection, expected in (
            (S2T(**by_entropy), low),
            (HighEntropyRare(**by_entropy), rare - low),
            (AllRare(**how), rare),
        ):
            found = silenced(selection, tokens, statistics)
            assert {t for t, is_silenced in enumerate(found) if is_silenced} == expected
        for selection, count in (
            (RandomRare(**by_entropy), len(low)),
            (RandomRare(**how, fraction=0.4), drawn),
        ):
            found = silenced(selection, tokens, statistics)
            rows = {t for t, is_silenced in enumerate(found) if is_silenced}
            assert len(rows) == count and rows <= rare
            if isinstance(selection, RandomRare) and selection.fraction is None:
                counts["other"] += rows != low
        counts["low"] += len(low)
        counts["high"] += len(rare - low)
    assert min(counts.values()) > 50, counts


def test_random_rare_takes_as_many_of_each_sign_as_s2t(generator):
    for _ in range(50):
        tokens, statistics = random_minibatch(generator, sequences=20)
        of = S2T(tau_p=0.05, sign="both"), RandomRare(tau_p=0.05, sign="both")
        masks = [torch.tensor(silenced(one, tokens, statistics)) for one in of]
        for sign in (1, -1):
            s2t, drawn = (int((m & (sign * tokens.advantages_T > 0)).sum()) for m in masks)
            assert s2t == drawn > 0


def test_what_selections_of_rare_tokens_need(generator):
    with pytest.raises(ConfigError, match="RandomRare draws by the random numbers"):
        tokens, statistics = random_minibatch(generator)
        RandomRare().select(replace(tokens, random_T=None), statistics, World())
    for selection, arguments in (
        (AllRare, {"sign": "minus"}),
        (AllRare, {"statistics": "old"}),
        (HighEntropyRare, {"quantile": 7}),
        (RandomRare, {"fraction": 1.5}),
        (RandomRare, {"scope": "some"}),
    ):
        with pytest.raises(ConfigError, match=next(iter(arguments))):
            selection(**arguments)
    assert not AllRare().needs_all_statistics and RandomRare(scope="all").needs_all_statistics
    assert AllRare(tau_p=0.1).rare_probability == 0.1
    with pytest.raises(TypeError, match="abstract"):
        RareSelection()


SELECTIONS = {
    "S2T": S2T(tau_p=0.2),
    "negative": S2T(tau_p=0.2, sign="negative"),
    "both": S2T(tau_p=0.2, sign="both", scope="all"),
    "HighEntropyRare": HighEntropyRare(tau_p=0.2),
    "AllRare": AllRare(tau_p=0.2),
    "RandomRare": RandomRare(tau_p=0.2),
    "RandomRare of all": RandomRare(tau_p=0.2, sign="both", scope="all"),
    "a fraction": RandomRare(tau_p=0.2, sign="both", fraction=0.3),
    "combined": [RandomRare(tau_p=0.2), TopEntropy(fraction=0.6)],
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_the_choice_does_not_depend_on_the_layout(name):
    objective = JustRL(selection=SELECTIONS[name])
    expected = weights(decided(objective, groups()))
    assert 0 < sum(weight == 0 for weight in expected.values()) < len(expected)
    shuffled = [random.Random(1).sample(group, len(group)) for group in groups()]
    random.Random(2).shuffle(shuffled)
    pruning = Pruning(0.05, 3, needs_sample=not objective.sees_all_tokens)
    for made, how in (
        *((groups(), {"micro_batches": count}) for count in (2, 4, 8)),
        (shuffled, {}),
        (groups(), {"pruning": pruning}),
        (shuffled, {"pruning": pruning, "micro_batches": 8}),
    ):
        found = weights(decided(objective, made, **how))
        assert found.keys() == expected.keys(), how
        assert found == pytest.approx(expected, rel=1e-12, abs=0), how


def one_of_two_ranks(rank: int, rendezvous: str, folder: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2
    )
    found = {}
    for name, selection in SELECTIONS.items():
        # Ranks sample alternate prompts, and then exchange sequences.
        tokens = decided(JustRL(selection=selection), groups()[rank::2], micro_batches=2)
        found[name] = weights(tokens)
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_choose_what_one_chooses(tmp_path):
    fork(one_of_two_ranks, str(tmp_path / "rendezvous"), str(tmp_path))
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, selection in SELECTIONS.items():
        expected = weights(decided(JustRL(selection=selection), groups()))
        assert not ranks[0][name].keys() & ranks[1][name].keys()
        together = ranks[0][name] | ranks[1][name]
        assert together == pytest.approx(expected, rel=1e-12, abs=0), name


def test_a_choice_is_made_anew_at_each_step_and_for_each_seed():
    objective = JustRL(selection=RandomRare(tau_p=0.2, statistics="behavior"))

    def rows(seed: int = 0, **step: int) -> set[int]:
        found = weights(decided(objective, groups(seed), **step))
        return {token for token, weight in found.items() if weight == 0}

    first = rows(version=5)
    assert rows(version=5) == first and rows(version=4, step=1) == first
    assert rows(version=6) != first and rows(version=5, step=1) != first
    other = groups()
    for group in other:
        for one in group:
            one.seed += 1  # the seed of another run
    found = weights(decided(objective, other))
    assert {token for token, weight in found.items() if weight == 0} != first


@pytest.mark.parametrize("objective", [GRPO, GSPO])
@pytest.mark.parametrize("name", SELECTIONS)
def test_silenced_tokens_have_exactly_no_gradient(generator, name, objective):
    tokens, statistics = random_minibatch(generator, sequences=30)
    loss = objective(selection=SELECTIONS[name])
    loss.set_weights(tokens, statistics, World(), 12)
    leaves = {key: x.clone().requires_grad_() for key, x in vars(statistics).items()}
    loss.loss(replace(statistics, **leaves), tokens)[0].backward()
    silenced_T = tokens.weights_T == 0
    assert silenced_T.any() and not leaves["logprobs_T"].grad[silenced_T].any()
    assert leaves["logprobs_T"].grad[~silenced_T].any()
