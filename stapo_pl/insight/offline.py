"""Computes from the records of a run what a shadow would have shown in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.draws import random_numbers
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.world import World
from stapo_pl.insight import records, shadows
from stapo_pl.insight.effects import Effects
from stapo_pl.insight.rows import joined, picked
from stapo_pl.objectives.base import Objective


def whole_rollouts(folder: Path) -> tuple[list[list[Path]], int]:
    """Returns the files of each rollout whose tokens are all recorded, and the number of others.

    Raises:
        ConfigError: there is no such rollout.
    """
    files: dict[int, list[Path]] = {}
    for file in records.files_of(folder, "tokens"):
        files.setdefault(records.rollout_of(file), []).append(file)
    whole = [
        of_rollout
        for of_rollout in files.values()
        if all(records.facts_of(file).tokens == "all" for file in of_rollout)
    ]
    if not whole:
        raise ConfigError(
            f"{folder}: it has records of {len(files)} rollouts, and of none of them all tokens, "
            "which a shadow needs; set recorder.tokens=all, and recorder.max_gib so that not all "
            "rollouts are thinned"
        )
    return whole, len(files) - len(whole)


def shadows_of(
    rollouts: list[list[Path]], objectives: dict[str, Objective]
) -> Iterator[tuple[int, dict[str, dict[str, float]]]]:
    """Yields the number of each recorded optimizer step, and what each shadow shows in it.

    Args:
        rollouts: what `whole_rollouts` returns.
        objectives: the shadows, by name.

    Raises:
        ConfigError: a shadow needs more than the records hold.
    """
    for name, objective in objectives.items():
        shadows.check_shadow(name, objective)
    for of_rollout in rollouts:
        parts = [records.read(file) for file in of_rollout]
        columns, facts = joined([columns for columns, _ in parts]), parts[0][1]
        for step in np.unique(columns["step"]).tolist():
            rows = picked(columns, columns["step"] == step)
            yield step, {name: _show(name, o, rows, facts) for name, o in objectives.items()}


def _show(
    name: str, objective: Objective, rows: dict[str, Any], facts: records.Facts
) -> dict[str, float]:
    is_token = rows["place"] != records.LEFT_OUT
    if not isinstance(rows.get("slope"), np.ndarray):
        raise ConfigError(
            "the run has recorded no slopes of its loss, because its gradient goes through the "
            "entropy: there is nothing to compare a shadow with"
        )
    if objective.needs_all_statistics and not is_token.all():
        raise ConfigError(
            f"{name}: its selection looks at all tokens, and some had no pass; only a run with "
            "data.prune=false records them all"
        )
    tokens, statistics, passed = _tokens(rows, is_token)
    own, world = statistics.split([passed, len(tokens) - passed])[0], World()
    shadow = shadows.cast(
        objective, tokens, statistics, passed, facts.temperature, facts.max_new_tokens, world
    )
    slopes_T = torch.from_numpy(rows["slope"][is_token])
    nothing_T = torch.zeros_like(slopes_T)
    ours = Effects(nothing_T, slopes_T, own.directions_T(facts.temperature), nothing_T)
    keeps_T = torch.from_numpy(rows["kept"][is_token].astype(bool))
    return shadows.compare(shadow, ours, keeps_T, len(tokens), world)


def _tokens(rows: dict[str, Any], is_token: np.ndarray) -> tuple[Tokens, TokenStatistics, int]:
    """Returns all tokens of a step, those without a pass last, and how many had one."""
    names = rows["prompt"].astype(np.int64) << 16 | rows["sample"]
    _, firsts, sequence = np.unique(names, return_index=True, return_inverse=True)
    counts = rows["token"][~is_token]
    rest, passed = int(counts.sum()), int(is_token.sum())

    def column(name: str, of_rest: float) -> torch.Tensor:
        values = np.asarray(rows[name], np.float32)[is_token]
        return torch.from_numpy(np.concatenate([values, np.full(rest, of_rest, np.float32)]))

    def of_all(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(
            np.concatenate([values[is_token], values[~is_token].repeat(counts)])
        )

    statistics = TokenStatistics(column("logprob", 0), column("entropy", 0), column("collision", 1))
    tokens = Tokens(
        token_ids_T=torch.zeros(passed + rest, dtype=torch.long),
        sequence_T=of_all(sequence),
        advantages_T=of_all(rows["advantage"]),
        sampler_logprobs_T=column("sampler_logprob", 0),
        old_logprobs_T=column("old_logprob", 0),
    )
    if isinstance(seeds := rows.get("seed"), np.ndarray):
        step = int(rows["step"][0])
        tokens.random_T = random_numbers(seeds[firsts].tolist(), step, tokens.sequence_T)
    return tokens, statistics, passed
