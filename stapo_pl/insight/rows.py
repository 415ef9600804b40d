"""Makes the rows of records from the objects of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from stapo_pl.core.batches import MiniBatch, Tokens, TokenStatistics
from stapo_pl.core.types import Rollout, Trajectory
from stapo_pl.insight.records import LEFT_OUT, NO_ADVANTAGE, NO_TOKEN_TEACHES

Alternatives = tuple[Tensor, Tensor, Tensor]
"""What `RareTokens.take` returns."""


def token_columns(
    mini_batch: MiniBatch,
    step: int,
    tokens: Tokens,
    statistics: TokenStatistics,
    slopes_T: Tensor | None,
    alternatives: Alternatives | None,
    masks: dict[str, Tensor],
) -> dict[str, Any]:
    """Returns the rows of a mini-batch on this rank, one column an array.

    Args:
        mini_batch: the mini-batch.
        step: the number of the optimizer step in the run.
        tokens: its tokens that had a pass.
        statistics: the statistics of these tokens under the policy that is updated.
        slopes_T: the slope of the loss with respect to their log-probabilities. None if it is not
            known.
        alternatives: the most likely tokens at rare ones.
        masks: which tokens each shadow keeps, by the name of the column.
    """
    passed, rest = mini_batch.trajectories, mini_batch.left_out_trajectories
    places = [np.flatnonzero(t.response_mask) for t in passed]
    counts = [len(place) for place in places]
    columns: dict[str, Any] = {
        "place": np.concatenate([*places, np.zeros(0, int)]),
        "token": _numpy(tokens.token_ids_T),
        "advantage": _numpy(tokens.advantages_T),
        "weight": _numpy(tokens.weights_T),
        "kept": _numpy(tokens.weights_T) != 0,
        "logprob": _numpy(statistics.logprobs_T),
        "entropy": _numpy(statistics.entropy_T),
        "collision": _numpy(statistics.collision_T),
        "old_logprob": _numpy(tokens.old_logprobs_T),
        "sampler_logprob": _numpy(tokens.sampler_logprobs_T),
        "curve_weight": _numpy(tokens.curve_weights_T),
    }
    if mini_batch.selected_by is not None:
        columns["selection_logprob"] = _numpy(mini_batch.selected_by.logprobs_T[: len(tokens)])
    if slopes_T is not None:
        columns["slope"] = _numpy(slopes_T)
    if tokens.correction_T is not None:
        columns["correction"] = _numpy(tokens.correction_T)
    columns |= {name: _numpy(mask_T) for name, mask_T in masks.items()}
    size = len(tokens) + len(rest)
    rows: dict[str, Any] = {name: _padded(column, size) for name, column in columns.items()}
    rows["place"][len(tokens) :] = LEFT_OUT
    rows["token"][len(tokens) :] = [sum(t.response_mask) for t in rest]
    rows["advantage"][len(tokens) :] = [t.advantage for t in rest]
    rows["step"] = np.full(size, step, np.int32)
    for name, of in (
        ("prompt", lambda t: t.prompt.position),
        ("sample", lambda t: t.sample),
        ("seed", lambda t: t.seed),
    ):
        of_passed = np.repeat(np.array([of(t) for t in passed], np.int64), counts)
        rows[name] = np.concatenate([of_passed, np.array([of(t) for t in rest], np.int64)])
    rows["reason"] = [None] * len(tokens) + [_reason(t) for t in rest]
    rows["alternatives"], rows["alternative_probs"] = [None] * size, [None] * size
    if alternatives is not None:
        for row, ids, probabilities in zip(*(x.tolist() for x in alternatives), strict=True):
            rows["alternatives"][row], rows["alternative_probs"][row] = ids, probabilities
    return rows


def _numpy(x: Tensor | None) -> np.ndarray:
    assert x is not None, "it is filled in before the loss"
    x = x.detach()
    return (x.float() if x.is_floating_point() else x).cpu().numpy()


def _padded(column: np.ndarray, size: int) -> np.ndarray:
    """Returns a column with zeros for the sequences that have no pass."""
    return np.concatenate([column, np.zeros(size - len(column), column.dtype)])


def _reason(trajectory: Trajectory) -> str:
    return NO_ADVANTAGE if any(trajectory.response_mask) else NO_TOKEN_TEACHES


def completion_columns(rollout: Rollout, number: int, version: int) -> dict[str, Any]:
    """Returns the rows of all completions that this rank sampled for a rollout.

    Args:
        rollout: the groups of this rank.
        number: the number of the rollout in the run.
        version: the number of optimizer steps of the policy that wrote them.
    """
    trained = {id(trajectory) for group in rollout.groups for trajectory in group}
    samples = [trajectory for group in rollout.sampled for trajectory in group]
    scores = [t.score for t in samples]
    problems = [t.prompt.problem for t in samples]
    return {
        "prompt": [t.prompt.position for t in samples],
        "sample": [t.sample for t in samples],
        "rollout": [number] * len(samples),
        "version": [version] * len(samples),
        "seed": [t.seed for t in samples],
        "trained": [id(t) in trained for t in samples],
        "question": [_text(p.messages[-1]["content"]) for p in problems],
        "prompt_ids": _lists([t.prompt.token_ids for t in samples]),
        "token_ids": _lists([t.completion.token_ids for t in samples]),
        "text": [_text(t.text) for t in samples],
        "answer": [_text(p.answer) for p in problems],
        "data_source": [_text(p.data_source) for p in problems],
        "reward": [t.reward for t in samples],
        "score": [s.reward for s in scores],
        "terms": [json.dumps(s.components) if s.components else None for s in scores],
        "advantage": [t.advantage for t in samples],
        "correct": [s.correct for s in scores],
        "extracted": [None if s.extracted is None else _text(s.extracted) for s in scores],
        "outcome": [s.outcome for s in scores],
        "reason": [_text(s.reason) for s in scores],
        "truncated": [t.completion.truncated for t in samples],
    }


def _text(value: object) -> str:
    """Returns a value as text that can be written. Text from JSON may hold halves of characters."""
    return str(value).encode("utf-8", "replace").decode()


def _lists(values: Sequence[Sequence[int]]) -> Any:
    """Returns a column of lists, without a Python object for each number."""
    import pyarrow as pa

    ends = np.cumsum([0, *map(len, values)], dtype=np.int32)
    flat = [number for value in values for number in value]
    return pa.ListArray.from_arrays(ends, pa.array(np.array(flat, np.int32)))


def joined(visits: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Joins the rows of several mini-batches. Columns that one of them lacks are null there."""
    names = dict.fromkeys(name for visit in visits for name in visit)
    found: dict[str, Any] = {}
    for name in names:
        parts = [visit[name] for visit in visits if name in visit]
        if isinstance(parts[0], np.ndarray) and len(parts) == len(visits):
            found[name] = np.concatenate(parts)
        else:
            found[name] = [x for v in visits for x in v.get(name, [None] * len(v["step"]))]
    return found


def picked(columns: dict[str, Any], keep: np.ndarray) -> dict[str, Any]:
    """Returns the chosen rows of all columns."""
    return {
        name: column[keep]
        if isinstance(column, np.ndarray)
        else [x for x, kept in zip(column, keep.tolist(), strict=True) if kept]
        for name, column in columns.items()
    }


def near_rare(columns: dict[str, Any], tau_p: float, context: int) -> np.ndarray:
    """Returns which rows are rare tokens or their neighbours, or sequences without a pass.

    Args:
        columns: all rows of a rollout, in their order.
        tau_p: the probability below which a token is rare, for the policy that is updated or for
            the one that the selection looked at.
        context: the number of neighbours on either side.
    """
    is_token = columns["place"] != LEFT_OUT
    # A selection may have looked at another policy than the one that is updated.
    seen = [columns[name] for name in ("logprob", "selection_logprob") if name in columns]
    lowest = np.min([x for x in seen if isinstance(x, np.ndarray)], axis=0)
    rare = np.flatnonzero(is_token & (np.exp(lowest) < tau_p))
    keep = ~is_token
    for shift in range(-context, context + 1):
        near = rare + shift
        inside = (near >= 0) & (near < len(keep))
        own, near = rare[inside], near[inside]
        same = is_token[near]
        for name in ("step", "prompt", "sample"):
            same &= columns[name][near] == columns[name][own]
        keep[near[same]] = True
    return keep
