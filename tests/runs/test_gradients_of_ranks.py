"""Two processes have the gradient of one, for every objective, selection, pruning and cut."""

from __future__ import annotations

import random
from itertools import chain, product

import pytest
import torch
import torch.distributed as dist

from stapo_pl.objectives import S2T
from stapo_pl.rollout.pruning import Pruning
from support.carriers import trajectory
from support.commands import fork
from support.objectives import build_objective
from support.places import OBJECTIVES
from support.steps import VOCABULARY, Passes, gradient

GROUPS, GROUP_SIZE = 6, 4
FIXED, BY_TOKENS = (2, None), (GROUPS * GROUP_SIZE, 45)  # most micro-batches, tokens of the largest
CASES = [
    f"{name}{s2t}{prune}" for name, s2t, prune in product(OBJECTIVES, ("", "+s2t"), ("", " pruned"))
]


def groups() -> list[list]:
    """Groups of responses of unlike length. Every third group teaches nothing.

    Responses of one rank are longer, so that it gives some of a group to the other rank.
    """
    draw, made = random.Random(0), []
    for place in range(GROUPS):
        group = []
        for sample in range(GROUP_SIZE):
            advantage = draw.gauss(0, 1) if place % 3 < 2 else 0.0
            prompt, response = (
                [draw.randrange(2, VOCABULARY) for _ in range(n)]
                for n in (3 + place % 4, draw.randint(1, 20) // (1 + 2 * (place % 2)) + 1)
            )
            group.append(trajectory(prompt, response, advantage, reward=float(advantage > 0)))
            group[-1].place, group[-1].seed = place, place * GROUP_SIZE + sample
        made.append(group)
    return made


def gradients(mine, most: int, max_tokens: int | None) -> dict[str, tuple[torch.Tensor, float]]:
    """The gradient and the loss in each case, of the groups of this rank and of the others."""
    found = {}
    for case in CASES:
        name = case.removesuffix(" pruned").removesuffix("+s2t")
        objective = build_objective(name, **({"ratio": 0.1} if "_cov" in name else {}))
        if "+s2t" in case:
            objective.selection = S2T(tau_p=0.05)
        pruning = Pruning(0.05, 1) if case.endswith(" pruned") and objective.can_prune else None
        passes = Passes(torch.Generator().manual_seed(0))
        found[case] = gradient(objective, passes, mine, pruning, most, GROUPS, max_tokens)
    return found


def one_of_two_ranks(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    cuts = [gradients(groups()[rank::2], *cut) for cut in (FIXED, BY_TOKENS)]
    torch.save(cuts, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    fork(one_of_two_ranks, str(folder))
    cuts_of_ranks = [torch.load(folder / f"{rank}.pt") for rank in range(2)]
    by_tokens_alone = gradients(groups(), *BY_TOKENS)
    return gradients(groups(), *FIXED), by_tokens_alone, *chain(*cuts_of_ranks)


@pytest.mark.parametrize("case", CASES)
def test_gradient_is_the_same_for_two_ranks_and_another_cut(found, case):
    whole, loss = found[0][case]
    assert whole.abs().max() > 0
    for part, its_loss in (rank[case] for rank in found[1:]):
        assert (part - whole).norm() / whole.norm() < 1e-9
        assert its_loss == pytest.approx(loss, abs=1e-12)
    # And pruning changes nothing.
    unpruned = found[0][case.removesuffix(" pruned")][0]
    assert (unpruned - whole).norm() / whole.norm() < 1e-9


@pytest.mark.parametrize("name", OBJECTIVES)
def test_silencing_changes_the_gradient(found, name):
    plain, silenced = found[0][name][0], found[0][f"{name}+s2t"][0]
    assert (silenced - plain).norm() / plain.norm() > 1e-6
