"""Two processes decide advantages, and the weights of a mini-batch, exactly as one does."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
import torch.distributed as dist

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.world import World
from stapo_pl.rollout.advantages import Estimator, group_advantages
from support.carriers import random_minibatch
from support.commands import fork
from support.objectives import build_objective
from support.places import OBJECTIVES

SEQUENCES = 9


def weigh(name: str, tokens: Tokens, statistics: TokenStatistics) -> torch.Tensor:
    objective = build_objective(name, **({"tau_p": 0.1} if "stapo" in name else {}))
    objective.set_weights(tokens, statistics, World(), 12)
    return torch.stack([tokens.weights_T, tokens.regularizer_weights_T])


def rewards_and_lengths() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    rewards_PG = torch.rand(6, 4, generator=generator, dtype=torch.float64).round(decimals=1)
    return rewards_PG, torch.randint(1, 30, (6, 4), generator=generator)


def rows(carrier, keep: torch.Tensor):
    return type(carrier)(**{k: v[keep] for k, v in vars(carrier).items() if v is not None})


def one_of_two_ranks(rank: int, rendezvous: str, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    tokens, statistics = random_minibatch(torch.Generator().manual_seed(3), SEQUENCES)
    # Unequal shares, so that gathered tensors differ in length.
    mine = (tokens.sequence_T < 6) == (rank == 0)
    share = rows(tokens, mine)
    share.sequence_T = share.sequence_T - share.sequence_T.min()
    weights = {name: weigh(name, share, rows(statistics, mine)) for name in OBJECTIVES}
    world = World()
    groups = slice(0, 4) if rank == 0 else slice(4, 6)
    rewards_PG, lengths_PG = (x[groups] for x in rewards_and_lengths())
    torch.save(
        {
            "weights": weights,
            "advantages": {
                name: group_advantages(rewards_PG, lengths_PG, name, world)
                for name in get_args(Estimator)
            },
            "gathered": world.gather(torch.arange(3.0 * rank)),
        },
        f"{folder}/{rank}.pt",
    )
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    fork(one_of_two_ranks, str(folder / "rendezvous"), str(folder))
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_weights_of_two_ranks_are_those_of_one(ranks, name):
    tokens, statistics = random_minibatch(torch.Generator().manual_seed(3), SEQUENCES)
    alone = weigh(name, tokens, statistics)
    together = torch.cat([rank["weights"][name] for rank in ranks], 1)
    torch.testing.assert_close(together, alone, rtol=1e-15, atol=0)
    if "stapo" in name or name == "entropy20":
        assert (alone[0] == 0).any()


def test_gather_takes_tensors_of_any_length(ranks):
    for rank in ranks:
        assert rank["gathered"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("estimator", get_args(Estimator))
def test_advantages_of_two_ranks_are_those_of_one(ranks, estimator):
    alone = group_advantages(*rewards_and_lengths(), estimator, World())
    together = torch.cat([rank["advantages"][estimator] for rank in ranks])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-15)
