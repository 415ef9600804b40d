"""Several selections of one objective: a token keeps its loss if all of them keep it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.world import World
from stapo_pl.objectives import GRPO, S2T, AllRare, JustRL, RandomRare, Selection, TopEntropy
from support.carriers import random_minibatch
from support.deciding import Table, decided, groups


@dataclass(kw_only=True)
class _Silences(Selection):
    """_Silences tokens by their rows, and remembers the statistics that it is given."""

    rows: tuple[int, ...] = ()
    denominator: str = "selected"
    statistics: str = "current"
    needs_all_statistics: bool = False
    seen: list[TokenStatistics] = field(default_factory=list)

    def select(self, tokens: Tokens, statistics: TokenStatistics, world: World):
        self.seen.append(statistics)
        keeps_T = torch.ones_like(tokens.sequence_T, dtype=torch.bool)
        keeps_T[list(self.rows)] = False
        return keeps_T


def weights(selection, aggregation: str) -> list[float]:
    """Two sequences, of four tokens and of two."""
    sequence_T, ones_T = torch.tensor([0, 0, 0, 0, 1, 1]), torch.ones(6, dtype=torch.float64)
    tokens = Tokens(sequence_T, sequence_T, ones_T, -ones_T, old_logprobs_T=-ones_T)
    statistics = TokenStatistics(-ones_T, ones_T, ones_T)
    JustRL(selection=selection, aggregation=aggregation).set_weights(
        tokens, statistics, World(), 12
    )
    return tokens.weights_T.tolist()


@pytest.mark.parametrize(
    "aggregation, expected",
    [
        # Row 0 is dropped by `selected`, row 1 by `all`, row 2 by both. Rows 1, 3, 4, 5 count.
        ("token-mean", [0, 0, 0, 1 / 4, 1 / 4, 1 / 4]),
        ("seq-mean-token-mean", [0, 0, 0, 1 / 4, 1 / 4, 1 / 4]),
        ("seq-mean-token-sum", [0, 0, 0, 1 / 2, 1 / 2, 1 / 2]),
        ("seq-mean-token-sum-norm", [0, 0, 0, 1 / 24, 1 / 24, 1 / 24]),
    ],
)
def test_what_only_a_selection_of_all_silences_still_counts(aggregation, expected):
    selected, of_all = _Silences(rows=(0, 2)), _Silences(rows=(1, 2), denominator="all")
    for several in ([selected, of_all], [of_all, selected]):
        assert weights(several, aggregation) == pytest.approx(expected)


def test_a_sequence_that_one_selection_silences_whole_counts_or_not():
    """Of `seq-mean-token-mean`: a sequence without counted tokens is not one of the N."""
    whole = _Silences(rows=(4, 5))
    expected = [1 / 4] * 4 + [0, 0]
    assert weights([whole, TopKept := _Silences()], "seq-mean-token-mean") == expected
    whole.denominator = "all"
    assert weights([whole, TopKept], "seq-mean-token-mean") == [1 / 8] * 4 + [0, 0]


def test_a_list_of_one_is_that_one_and_an_empty_list_is_none(generator):
    tokens, statistics = random_minibatch(generator, sequences=20)

    def of(selection) -> torch.Tensor:
        JustRL(selection=selection).set_weights(tokens, statistics, World(), 12)
        return tokens.weights_T

    for one in (S2T(tau_p=0.1), TopEntropy(), RandomRare(tau_p=0.1)):
        assert torch.equal(of([one]), of(one))
    assert torch.equal(of([]), of(None)) and not JustRL(selection=[]).needs_behavior_statistics


@pytest.mark.parametrize("old_logprobs", ["recompute", "sampler"])
@pytest.mark.parametrize("mini_batches, step", [(1, 0), (1, 1), (2, 1)])
def test_each_gets_the_statistics_that_it_asks_for(mini_batches, step, old_logprobs):
    """At the first step, in a second epoch, and in the second mini-batch of a rollout."""
    now, before = _Silences(), _Silences(statistics="behavior")
    for several in ([now, before], [before, now]):
        tokens = decided(
            GRPO(selection=several),
            groups(),
            mini_batches=mini_batches,
            step=step,
            old_logprobs=old_logprobs,
        )
        current, behavior = (Table().of(tokens, version) for version in (step, 0))
        # The first call decides; another, for a curve, has the statistics of the rollout.
        assert torch.equal(now.seen[0].entropy_T, current.entropy_T)
        assert torch.equal(before.seen[0].entropy_T, behavior.entropy_T)
        assert torch.equal(now.seen[0].entropy_T, before.seen[0].entropy_T) == (step == 0)
        assert all(torch.equal(s.entropy_T, behavior.entropy_T) for s in now.seen[1:])
        now.seen.clear()
        before.seen.clear()


@pytest.mark.parametrize("step", [0, 1])
def test_s2t_and_top_entropy_together_are_both_alone(step):
    """At step 1, S2T sees the policy of now, and TopEntropy the one of the rollout."""
    s2t, top = S2T(tau_p=0.2), TopEntropy(fraction=0.6)
    kept = [
        decided(JustRL(selection=selection), groups(), step=step).weights_T
        for selection in (s2t, top, [s2t, top])
    ]
    assert torch.equal((kept[0] != 0) & (kept[1] != 0), kept[2] != 0)
    counted = (kept[0] != 0).sum()
    assert kept[2].max().item() == pytest.approx(1 / int(counted), rel=1e-12)
    assert len({int((weights_T != 0).sum()) for weights_T in kept}) == 3


def test_an_objective_needs_what_one_of_its_selections_needs():
    rare, top = S2T(tau_p=0.1), TopEntropy()
    for several in ([rare, top], [top, rare]):
        objective = JustRL(selection=several)
        assert objective.needs_current_statistics and objective.needs_all_statistics
        assert objective.sees_all_tokens and objective.rare_probability == 0.1
    objective = JustRL(selection=[rare, AllRare(tau_p=0.3)])
    assert not objective.needs_all_statistics and objective.rare_probability == 0.1
    objective = JustRL(selection=[top, S2T(scope="all", statistics="behavior")])
    assert not objective.needs_current_statistics
