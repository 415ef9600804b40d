"""Reads and joins the records of a run: the tokens and completions of all its ranks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.insight import records
from stapo_pl.insight.classes import classify

if TYPE_CHECKING:
    import pyarrow as pa

_SORTED_BY = ("step", "prompt", "sample", "place")
_INTEGERS = (*_SORTED_BY, "token")
_FLOATS = (
    "advantage", "logprob", "entropy", "collision", "selection_logprob", "old_logprob",
    "sampler_logprob", "curve_weight",
)  # fmt: skip
MASK = "kept_"
"""The names of columns that hold the selection of a shadow begin so."""


@dataclass
class Records:
    """The recorded tokens of a run, and its completions.

    A visit is one pass over one completion in an optimizer step. The tokens of a visit are rows
    that follow each other. N counts rows, and V visits.
    """

    columns: dict[str, NDArray]
    """The columns [N] of all token rows. A number that was not recorded is NaN."""
    alternatives: list[tuple[list[int], list[float]] | None]
    """The most likely tokens at each row and their probabilities, where they were recorded."""
    starts_V: NDArray
    """The first row of each visit."""
    visit_N: NDArray
    """The number of the visit of each row."""
    completions: pa.Table
    """The completions of all ranks, in the order of their rollouts."""
    completion_V: NDArray
    """The number of the completion of each visit, or -1 if its file was not written yet."""
    facts: records.Facts
    """What the newest file of tokens says."""
    tau_h: dict[int, float]
    """The entropy threshold of each optimizer step that has one."""
    kinds: list[str]
    """Which tokens were recorded, in any of the files: `all`, `sampled` or `rare`."""
    total: int
    """The number of tokens that had a pass, whether they were recorded or not."""
    left_out: int
    """How many tokens were in sequences that had no pass."""
    rollout_N: NDArray
    """The number of the rollout of each row."""

    def __len__(self) -> int:
        return len(self.columns["step"])

    def completion(self, number: int) -> dict[str, Any]:
        """Returns a completion with all its columns."""
        return self.completions.slice(number, 1).to_pylist()[0]

    @property
    def p_N(self) -> NDArray:
        """The probability of each token under the policy that the selection looked at."""
        chosen = self.columns["selection_logprob"]
        return np.exp(np.where(np.isnan(chosen), self.columns["logprob"], chosen))

    @property
    def gap_N(self) -> NDArray:
        """The log-probability of the sampler minus that of the trainer before the updates."""
        return self.columns["sampler_logprob"] - self.columns["old_logprob"]

    @property
    def rare_N(self) -> NDArray:
        """Whether the probability of each token is below tau_p."""
        return self.p_N < self.facts.tau_p

    @property
    def masks(self) -> dict[str, NDArray]:
        """What each shadow keeps, by its name: 1, 0, or NaN where it was not recorded."""
        return {
            name.removeprefix(MASK): column
            for name, column in self.columns.items()
            if name.startswith(MASK)
        }

    def classes_N(self) -> NDArray:
        """Returns the number of the class of each row. Without a threshold no entropy is low."""
        steps, place_N = np.unique(self.columns["step"], return_inverse=True)
        thresholds = np.array([self.tau_h.get(int(step), -np.inf) for step in steps])
        c = {name: torch.from_numpy(column) for name, column in self.columns.items()}
        tokens = Tokens(c["token"], c["prompt"], c["advantage"], c["sampler_logprob"])
        logp = torch.from_numpy(np.log(self.p_N))
        statistics = TokenStatistics(logp, c["entropy"], c["collision"])
        tau_h_N = torch.from_numpy(thresholds[place_N])
        return classify(tokens, statistics, self.facts.tau_p, tau_h_N).numpy()


def read_records(folder: Path) -> Records | None:
    """Returns the records in a run folder, or None if there are no tokens."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = list(records.files_of(folder, "tokens"))
    completions = [pq.read_table(file) for file in records.files_of(folder, "completions")]
    if not files or not completions:
        return None
    tables = [pq.read_table(file) for file in files]
    facts = [records.facts_of(file) for file in files]
    rollouts = [
        np.full(len(table), records.rollout_of(file))
        for file, table in zip(files, tables, strict=True)
    ]
    # Files of an earlier part of the run lack the columns of shadows that were added later.
    table = pa.concat_tables(tables, promote_options="default")
    return join(table, np.concatenate(rollouts), pa.concat_tables(completions), facts)


def join(
    table: pa.Table,
    rollout_N: NDArray,
    completions: pa.Table,
    facts: list[records.Facts],
) -> Records:
    """Joins the rows of tokens with the completions that they are in.

    Args:
        table: the rows of all files of tokens.
        rollout_N: the number of the rollout of each row.
        completions: the rows of all files of completions.
        facts: what is known besides of each file of tokens, the newest last.
    """
    sorting = np.lexsort([table[name].to_numpy() for name in reversed(_SORTED_BY)])
    place = table["place"].to_numpy()
    is_left_out = place == records.LEFT_OUT
    left_out = int(table["token"].to_numpy()[is_left_out].sum())
    chosen = sorting[~is_left_out[sorting]]
    numbers = [*_FLOATS, *(name for name in table.column_names if name.startswith(MASK))]
    columns = {name: table[name].to_numpy()[chosen].astype(np.int64) for name in _INTEGERS}
    columns |= {name: _floats(table[name])[chosen] for name in ("kept", *numbers)}
    keys = np.stack([columns[name] for name in _SORTED_BY[:3]])
    is_first = np.ones(len(chosen), bool)
    is_first[1:] = (keys[:, 1:] != keys[:, :-1]).any(0)
    starts = np.flatnonzero(is_first)
    names = zip(completions["prompt"].to_numpy(), completions["sample"].to_numpy(), strict=True)
    numbered = {name: number for number, name in enumerate(names)}
    found = [numbered.get((p, s), -1) for _, p, s in keys[:, starts].T.tolist()]
    ids, probs = table["alternatives"], table["alternative_probs"]
    return Records(
        columns=columns,
        alternatives=_alternatives(ids, probs, chosen),
        starts_V=starts,
        visit_N=np.cumsum(is_first) - 1,
        completions=completions,
        completion_V=np.array(found, np.int64),
        facts=facts[-1],
        tau_h={step: value for one in facts for step, value in one.tau_h.items()},
        kinds=sorted({one.tokens for one in facts}),
        total=sum(one.total for one in facts),
        left_out=left_out,
        rollout_N=rollout_N[chosen],
    )


def _floats(column: pa.ChunkedArray) -> NDArray:
    import pyarrow as pa

    return column.cast(pa.float32()).to_numpy().astype(np.float64)


def _alternatives(
    ids: pa.ChunkedArray, probs: pa.ChunkedArray, chosen: NDArray
) -> list[tuple[list[int], list[float]] | None]:
    """Returns the alternatives of the chosen rows. Few rows have any, so only those are read."""
    found: list[tuple[list[int], list[float]] | None] = [None] * len(chosen)
    has_any = ids.is_valid().to_numpy()[chosen]
    for n in np.flatnonzero(has_any):
        row = int(chosen[n])
        found[n] = (ids[row].as_py(), probs[row].as_py())
    return found
