"""The files in which a run keeps its tokens and completions: one of each a rollout and rank.

`tokens-ROLLOUT-RANK.parquet` has one row for each response token and visit, and one row for each
sequence that was left out of the passes. `completions-ROLLOUT-RANK.parquet` has one row for each
completion that the rank sampled. The position of the prompt and the number of the sample name a
sequence in both, whichever rank trained on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stapo_pl.core.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "records"
_FORMAT = 1
# The row of a sequence that was left out has no place in a completion.
LEFT_OUT = -1
NO_ADVANTAGE = "no advantage"
NO_TOKEN_TEACHES = "no token teaches"

TOKEN_COLUMNS = {
    "step": "int32",  # the optimizer step of the run
    "prompt": "int32",  # the position of the prompt in the stream of prompts
    "sample": "int16",  # the number of the completion of this prompt
    "seed": "int64",  # that the completion was sampled with; draws of tokens depend on it
    "place": "int32",  # the place in the completion; LEFT_OUT for a sequence without a pass
    "token": "int32",  # the token; for a sequence without a pass, the number of its tokens
    "advantage": "float32",
    "weight": "float32",  # of the surrogate loss; 0 if the token is silenced
    "kept": "bool",  # whether it keeps its loss
    "logprob": "float32",  # of the policy that is updated, with its
    "entropy": "float32",
    "collision": "float32",
    "slope": "float32",  # dL/dlog p
    "selection_logprob": "float32",  # of the policy that the selection looked at
    "old_logprob": "float32",
    "sampler_logprob": "float32",
    "correction": "float32",  # null if the objective has none
    "curve_weight": "float32",  # the tokens that it stands for in curves
    "reason": "string",  # why a sequence has no pass; null for a token
    "alternatives": "list<int32>",  # the most likely tokens at a rare token; null elsewhere
    "alternative_probs": "list<float32>",
}
COMPLETION_COLUMNS = {
    "prompt": "int32",
    "sample": "int16",
    "rollout": "int32",
    "version": "int32",  # the optimizer steps of the policy that wrote it
    "seed": "int64",
    "trained": "bool",  # whether its group is trained on
    "question": "string",  # the last message of the prompt
    "prompt_ids": "list<int32>",
    "token_ids": "list<int32>",
    "text": "string",
    "answer": "string",
    "data_source": "string",
    "reward": "float32",  # after shaping
    "score": "float32",  # before shaping
    "terms": "string",  # of a weighted reward, as JSON
    "advantage": "float32",
    "correct": "bool",
    "extracted": "string",
    "outcome": "string",
    "reason": "string",
    "truncated": "bool",
}


@dataclass
class Facts:
    """What a reader must know of a file of tokens besides its rows."""

    objective: str = ""
    """The class of the objective."""
    tokens: str = "all"
    """Which tokens are in the file: `all`, `sampled` or `rare`."""
    temperature: float = 1.0
    max_new_tokens: int = 0
    tau_p: float = 0.0
    """The probability below which a token is rare."""
    tau_h: dict[int, float] = field(default_factory=dict)
    """The entropy threshold in nats of each optimizer step that has one."""
    total: int = 0
    """The number of tokens that had a pass, whether they are in the file or not."""


def token_file(folder: Path, rollout: int, rank: int) -> Path:
    return folder / f"tokens-{rollout:06d}-{rank:04d}.parquet"


def completion_file(folder: Path, rollout: int, rank: int) -> Path:
    return folder / f"completions-{rollout:06d}-{rank:04d}.parquet"


def rollout_of(file: Path) -> int:
    """Returns the number of the rollout that a file is about."""
    return int(file.name.split("-")[1])


def write(file: Path, columns: dict[str, Any], facts: Facts | None = None) -> None:
    """Writes a file at once: a reader sees the old one or the new one, and never a part.

    Args:
        file: the file.
        columns: all values of each column, as an array or a list. A column that is not there is
            null everywhere.
        facts: what goes with a file of tokens.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = TOKEN_COLUMNS if facts is not None else COMPLETION_COLUMNS
    fields = [pa.field(name, _type(kind)) for name, kind in kinds.items()]
    extra = [pa.field(name, pa.bool_()) for name in columns if name not in kinds]
    count = len(next(iter(columns.values())))
    arrays = [
        pa.nulls(count, f.type) if f.name not in columns else _array(columns[f.name], f.type)
        for f in [*fields, *extra]
    ]
    about = {"format": _FORMAT} | ({} if facts is None else asdict(facts))
    schema = pa.schema([*fields, *extra], metadata={"stapo": json.dumps(about)})
    file.parent.mkdir(parents=True, exist_ok=True)
    written = file.with_suffix(".tmp")
    # Columns that repeat themselves take no room as a dictionary. Numbers that never do would only
    # fill one.
    repeat = [n for n in kinds if n in _REPEATING]
    pq.write_table(
        pa.Table.from_arrays(arrays, schema=schema),
        written,
        compression="lz4",
        use_dictionary=repeat,
        write_statistics=False,
    )
    written.replace(file)


_REPEATING = {
    "step", "prompt", "sample", "seed", "token", "advantage", "weight", "curve_weight", "reason",
    "correction", "rollout", "version", "question", "answer", "data_source", "outcome",
}  # fmt: skip


def facts_of(file: Path) -> Facts:
    """Returns what is known of a file of tokens besides its rows, without reading these.

    Raises:
        ConfigError: another version of this package wrote it.
    """
    import pyarrow.parquet as pq

    about = json.loads(pq.read_schema(file).metadata[b"stapo"])
    if (found := about.pop("format")) != _FORMAT:
        raise ConfigError(f"{file}: it has format {found}, and this version reads {_FORMAT} only")
    facts = Facts(**about)
    facts.tau_h = {int(step): value for step, value in facts.tau_h.items()}
    return facts


def read(file: Path) -> tuple[dict[str, Any], Facts]:
    """Returns the columns of a file of tokens as arrays, and what is known besides.

    Columns of lists and of texts are lists of Python. Columns that are null are lists too.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column, kind = table[name], TOKEN_COLUMNS.get(name, "bool")
        is_plain = kind != "string" and not kind.startswith("list<") and not column.null_count
        columns[name] = column.to_numpy() if is_plain else column.to_pylist()
    return columns, facts_of(file)


def read_completions(file: Path) -> list[dict[str, Any]]:
    """Returns the rows of a file of completions."""
    import pyarrow.parquet as pq

    return pq.read_table(file).to_pylist()


def files_of(folder: Path, kind: str) -> Iterator[Path]:
    """Yields the files of a kind (`tokens` or `completions`) in a run folder, in their order."""
    yield from sorted((folder / FOLDER).glob(f"{kind}-*.parquet"))


def _type(kind: str) -> pa.DataType:
    import pyarrow as pa

    if kind.startswith("list<"):
        return pa.list_(_type(kind[5:-1]))
    return pa.type_for_alias(kind)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    return values if isinstance(values, pa.Array) else pa.array(values, kind)
