"""Rows of data sets, written and read."""

from __future__ import annotations

import json
from pathlib import Path

import datasets

from stapo_pl.tasks import Dataset


def verl_row(content: str, answer: str) -> dict:
    return {
        "prompt": [{"role": "user", "content": content}],
        "reward_model": {"ground_truth": answer, "style": "rule"},
        "data_source": "made",
    }


BOX = "{problem}\nPut it within \\boxed{}."


ROWS = [{"problem": f"{i}+{i}?", "answer": str(2 * i), "level": i % 3} for i in range(9)]


def write(path: Path, rows: list) -> str:
    """Rows in the format of the suffix."""
    if path.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def asked(problem_set) -> list[str]:
    return [problem.messages[-1]["content"] for problem in problem_set.problems]


def whole(path: str, **kwargs):
    """All rows, read for validation."""
    return Dataset(path, validation_size=None, **kwargs).validation_problems()
