"""Losses, advantages and corrections that verl 0.9.1 computed, and the data it computed them from.

`tests/golden/README.md` says how they were made, and what each key means.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.draws import random_numbers
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.seeding import seed_for

_NAME = "verl_0.9.1.json"
# The length that rows are padded to. verl takes it for the largest possible number of tokens of a
# response.
LONGEST = 12
# In these, verl adds 1e-8 to lengths, and no paper does. Values of this size show it.
_ROUGH = ("sapo", "gmpo")


@dataclass(frozen=True)
class Vector:
    """Something that was computed for each recorded mini-batch."""

    kind: str
    """What it is: losses, advantages or corrections."""
    key: str
    """Its name in the file."""

    @property
    def tolerance(self) -> float:
        """The largest difference to which our own classes equal it."""
        return 1e-8 if self.key.startswith(_ROUGH) else 1e-9

    def of(self, case: dict[str, Any]) -> Any:
        """Returns what was computed for one mini-batch."""
        return case[self.kind][self.key]


@cache
def cases() -> list[dict[str, Any]]:
    """Returns the recorded mini-batches: their data, and all that was computed from it."""
    package = Path(__file__).parents[1]
    shipped = package / "golden" / _NAME  # an installed package has a copy of the clone's file
    file = shipped if shipped.is_file() else package.parent / "tests" / "golden" / _NAME
    return json.loads(file.read_text())["cases"]


def vectors() -> list[Vector]:
    """Returns all that an objective can be compared with."""
    kinds = ("losses", "advantages", "corrections")
    return [Vector(kind, key) for kind in kinds for key in cases()[0][kind]]


def find_vector(name: str) -> Vector:
    """Returns what a name means, which is a key or the beginning of one.

    Raises:
        ConfigError: no key begins with it, or several do.
    """
    begun = [vector for vector in vectors() if vector.key.startswith(name)]
    found = [vector for vector in begun if vector.key == name] or begun
    if not found:
        raise ConfigError(f"--like {name}: no key begins with it; --list shows all of them")
    if len(found) > 1:
        listed = ", ".join(f'"{vector.key}"' for vector in found)
        raise ConfigError(f"--like {name}: which of them? {listed}")
    return found[0]


def flat(case: dict[str, Any], rows: list[Any] | Tensor) -> Tensor:
    """Returns right-padded rows [B, L], or values of sequences [B], as response tokens [T]."""
    lengths = torch.tensor(case["lengths"])
    values = torch.as_tensor(rows, dtype=torch.float64)
    if values.dim() == 1:
        return values.repeat_interleave(lengths)
    return values[torch.arange(values.shape[1]) < lengths[:, None]]


def mini_batch(case: dict[str, Any]) -> tuple[Tokens, TokenStatistics]:
    """Returns the tokens of a recorded mini-batch, and their statistics under the policy.

    The advantages are those of `grpo(std, ddof=1, eps=1e-6)`, from which all losses were made.
    """
    sequence_T = flat(case, [*range(len(case["lengths"]))]).long()
    seeds = [seed_for(case["seed"], row) for row in range(len(case["lengths"]))]
    old_T = flat(case, case["old_logp"])
    tokens = Tokens(
        token_ids_T=torch.arange(len(sequence_T)),
        sequence_T=sequence_T,
        advantages_T=flat(case, case["advantages"]["grpo(std, ddof=1, eps=1e-6)"]),
        sampler_logprobs_T=old_T - flat(case, case["log_train_minus_sampler"]),
        curve_weights_T=torch.ones_like(old_T),
        rewards_T=flat(case, case["rewards"]),
        group_T=sequence_T // case["group_size"],
        old_logprobs_T=old_T,
        reference_logprobs_T=flat(case, case["ref_logp"]),
        random_T=random_numbers(seeds, 0, sequence_T),
    )
    columns = (flat(case, case[name]) for name in ("logp", "entropy", "collision"))
    return tokens, TokenStatistics(*columns)


def joined_mini_batch() -> tuple[Tokens, TokenStatistics]:
    """Returns one mini-batch with the sequences of all recorded ones."""
    tokens, statistics = zip(*map(mini_batch, cases()), strict=True)
    for before, after in pairwise(tokens):
        after.sequence_T = after.sequence_T + before.sequence_T.max() + 1
        after.group_T = after.group_T + before.group_T.max() + 1
    return Tokens.cat(tokens), TokenStatistics.cat(statistics)
