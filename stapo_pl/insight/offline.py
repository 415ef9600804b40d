"""Computes from the records of a run what a shadow would have shown in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.world import World
from stapo_pl.insight import records, shadows
from stapo_pl.insight.effects import Effects
from stapo_pl.insight.rows import joined, picked
from stapo_pl.objectives.base import Objective


def shadows_of(
    folder: Path, objectives: dict[str, Objective]
) -> Iterator[tuple[int, dict[str, dict[str, float]]]]:
    """Yields the number of each recorded optimizer step, and what each shadow shows in it.

    Args:
        folder: the run folder.
        objectives: the shadows, by name.

    Raises:
        ConfigError: the run has no records of all tokens, or a shadow needs more than they hold.
    """
    for name, objective in objectives.items():
        shadows.check_shadow(name, objective)
    files: dict[int, list[Path]] = {}
    for file in records.files_of(folder, "tokens"):
        files.setdefault(records.rollout_of(file), []).append(file)
    if not files:
        raise ConfigError(f"{folder}: it has no records of tokens; set recorder.tokens=all")
    for of_rollout in files.values():
        parts = [records.read(file) for file in of_rollout]
        columns, facts = joined([columns for columns, _ in parts]), parts[0][1]
        if any(other.tokens != "all" for _, other in parts):
            raise ConfigError(
                f"{of_rollout[0]}: it holds {facts.tokens} tokens only, and a shadow needs all; "
                "set recorder.tokens=all, and recorder.max_gib so that nothing is thinned"
            )
        for step in np.unique(columns["step"]).tolist():
            rows = picked(columns, columns["step"] == step)
            yield step, {name: _show(name, o, rows, facts) for name, o in objectives.items()}


def _show(
    name: str, objective: Objective, rows: dict[str, Any], facts: records.Facts
) -> dict[str, float]:
    is_token = rows["place"] != records.LEFT_OUT
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
    sequence = np.unique(names, return_inverse=True)[1]
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
    return tokens, statistics, passed
