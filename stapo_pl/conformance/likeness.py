"""Compares an objective with losses, advantages and corrections that verl computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from stapo_pl.conformance.checks import Check, largest_difference, take_step
from stapo_pl.conformance.vectors import LONGEST, Vector, cases, flat, mini_batch
from stapo_pl.core.batches import TokenStatistics
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.world import World
from stapo_pl.objectives import Objective
from stapo_pl.rollout.advantages import group_advantages

# What an objective and verl computed, by name.
Pairs = dict[str, tuple[Tensor, Tensor]]


def check_likeness(objective: Objective, vector: Vector, tolerance: float) -> list[Check]:
    """Compares an objective with what verl computed, over all recorded mini-batches.

    - losses: the loss, and its gradient with respect to the log-probabilities.
    - advantages: those of the objective's token advantage, or else of `rollout.advantage`.
    - corrections: the weights of the objective's correction.

    Raises:
        ConfigError: the vector is a correction, and the objective has none.
    """
    compare: dict[str, Callable[[Objective, dict[str, Any], Any], Pairs]]
    compare = {"losses": _loss, "advantages": _advantages, "corrections": _correction}
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for case in cases():
        for name, pair in compare[vector.kind](objective, case, vector.of(case)).items():
            found.setdefault(name, []).append(pair)
    return [
        Check(f"{name} as verl computed it", largest_difference(pairs), tolerance)
        for name, pairs in found.items()
    ]


def _loss(objective: Objective, case: dict[str, Any], recorded: dict[str, Any]) -> Pairs:
    tokens, statistics = mini_batch(case)
    # verl computed its losses without a correction. Where sampler and policy agree, there is none.
    tokens.sampler_logprobs_T = tokens.old_logprobs_T
    step = take_step(objective, tokens, statistics, LONGEST)
    return {
        "loss": (step.loss, torch.tensor(recorded["loss"], dtype=torch.float64)),
        "gradient": (step.gradient.logprobs_T, flat(case, recorded["grad"])),
    }


def _advantages(objective: Objective, case: dict[str, Any], recorded: list[Any]) -> Pairs:
    tokens, current = mini_batch(case)
    rewards_PG = torch.tensor(case["rewards"], dtype=torch.float64).view(-1, case["group_size"])
    lengths_PG = torch.tensor(case["lengths"]).view_as(rewards_PG)
    estimator = objective.rollout.advantage
    advantages_PG = group_advantages(rewards_PG, lengths_PG, estimator, World())
    tokens.advantages_T = flat(case, advantages_PG.flatten())
    if objective.token_advantage is not None:
        behavior = TokenStatistics(tokens.old_logprobs_T, current.entropy_T, current.collision_T)
        tokens.advantages_T = objective.token_advantage.advantages(tokens, behavior, World())
    return {"advantage": (tokens.advantages_T, flat(case, recorded))}


def _correction(objective: Objective, case: dict[str, Any], recorded: list[Any]) -> Pairs:
    if objective.correction is None:
        raise ConfigError("--like names a correction, and the objective has none: correction=NAME")
    tokens, statistics = mini_batch(case)
    objective.set_weights(tokens, statistics, World(), LONGEST)
    return {"correction": (tokens.correction_T, flat(case, recorded))}
