"""Rows in verl's format, from a parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stapo_pl.errors import ConfigError
from stapo_pl.rewards.base import Score
from stapo_pl.rewards.math import math_boxed
from stapo_pl.tasks.base import Problem, Task

_COLUMNS = ("prompt", "reward_model", "data_source")

# What the paper appends to every problem (2602.15620).
INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}."


class VerlParquet(Task):
    r"""Mathematics with a checkable answer, in rows as verl reads them.

    A row has `prompt` (chat messages), `reward_model.ground_truth` and `data_source`. The
    instruction is appended to the last message unless it is in there already. The answer is the
    last `\boxed{}`, checked with math-verify.

    Args:
        path: the parquet file.
        validation_path: another one, for validation; None validates on the first rows of `path`.
        validation_size: number of validation rows.
        instruction: appended to every problem; empty appends nothing.

    Raises:
        ConfigError: a file is missing or has other columns.
    """

    def __init__(
        self,
        path: str,
        validation_path: str | None = None,
        validation_size: int = 64,
        instruction: str = INSTRUCTION,
    ) -> None:
        self.path, self.validation_path = path, validation_path or path
        self.validation_size, self.instruction = validation_size, instruction
        for file in (self.path, self.validation_path):
            if not Path(file).is_file():
                raise ConfigError(
                    f"task.path={file}: no such file; give a parquet file in verl's row format"
                )

    def train_problems(self) -> list[Problem]:
        return self._read(self.path)

    def validation_problems(self) -> list[Problem]:
        return self._read(self.validation_path)[: self.validation_size]

    def score(self, response: str, problem: Problem) -> Score:
        return math_boxed(response, problem.answer)

    def _read(self, file: str) -> list[Problem]:
        from datasets import Dataset, disable_progress_bars  # heavy, and only needed here

        disable_progress_bars()
        try:
            rows = Dataset.from_parquet(file, keep_in_memory=True)
        except Exception as error:  # the file is the user's and may be anything
            raise ConfigError(f"{file}: not a parquet file that can be read") from error
        missing = [column for column in _COLUMNS if column not in rows.column_names]
        if missing:
            raise ConfigError(
                f"{file}: column {missing[0]} is missing; it has {', '.join(rows.column_names)}"
            )
        return [self._problem(row, f"{file}, row {number}") for number, row in enumerate(rows)]

    def _problem(self, row: dict[str, Any], place: str) -> Problem:
        try:
            messages = self._messages(row["prompt"])
            answer = row["reward_model"]["ground_truth"]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{place}: expected prompt as chat messages (role, content) and "
                "reward_model.ground_truth"
            ) from error
        return Problem(messages, str(answer), row["data_source"])

    def _messages(self, messages: list[dict[str, str]]) -> list[dict[str, str]]:
        *earlier, last = messages
        content = last["content"]
        if self.instruction and r"\boxed" not in content:
            content = f"{content}\n{self.instruction}"
        return [*earlier, {"role": last["role"], "content": content}]
