"""Problems from a table, which is a file or a dataset of the Hugging Face hub."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.progress import progress_bar
from stapo_pl.core.types import Problem, ProblemSet
from stapo_pl.core.world import World
from stapo_pl.rewards import Math, Reward
from stapo_pl.tasks.base import Task
from stapo_pl.tasks.rows import LastAssistant, MissingColumn, RowReader, value_at
from stapo_pl.tasks.tables import BadRow, Table, find_tables

# Reading shows its progress after this many seconds.
_LONG = 3.0


class Dataset(Task):
    r"""Problems with answers that can be checked, one in each row of a table.

    Some rows are in verl's format: they have the columns `prompt` (chat messages) and
    `reward_model`. If such a row lacks the column `prompt` or `answer` that is set here, the
    messages come from its `prompt` and the answer from its `reward_model.ground_truth`. The
    problem keeps its `data_source` and `extra_info`. A column `a.b` means b inside a, and `a.0`
    means the first entry of the list a.

    Validation problems come from `validation_path`, or from `validation_split` of a dataset of the
    hub. If neither is given, the first `validation_size` different problems of `path` are held out.
    Training then has the other problems. Copies of held-out problems are left out and count as
    filtered.

    Args:
        path: a .parquet, .jsonl or .json file (a .json file holds a list of objects). A folder
            stands for the file in it that is called `name`, in any case and punctuation. It may
            also be the name of a dataset of the hub (owner/name), or a folder with a copy of one. A
            list of these is read in its order.
        subset: the configuration of a dataset of the hub; files have none.
        split: the split of a dataset of the hub; files have none.
        name: the name in curves and files. None means that of the first file or dataset.
        prompt: the column of the problem, which is text or chat messages.
        answer: the column of the answer, which is text or a number. A row whose answer is a list,
            an object or a truth value is a bad row, unless the reward is a function of your own,
            which gets it as JSON text.
        pattern: a regular expression whose first group is the problem in the text of the column.
            None takes the whole text. A row in which it is not found is a bad row.
        template: the text of the prompt, with `{problem}` in it. None asks the problem as it is. If
            problem and template both ask for a \boxed{} answer, the problem is asked as it is too.
        system: a system message for prompts that have none.
        last_assistant: if the messages end with one of the assistant, that is a solution. `drop`
            removes and counts it; `bad_row` makes the row a bad row.
        filter: for each column, the value or the list of values that a row must have there.
        reward: judges the responses. None means mathematical equality.
        validation_path: like `path`, for validation.
        validation_split: like `split`, for validation. None means the same split.
        validation_size: number of validation problems. None takes all. 0 is for runs that
            validate on benchmarks.

    Raises:
        ConfigError: a setting is wrong, or there is no such file.
    """

    def __init__(
        self,
        path: list[str] | str,
        subset: str | None = None,
        split: str = "train",
        name: str | None = None,
        prompt: str = "problem",
        answer: str = "answer",
        pattern: str | None = None,
        template: str | None = None,
        system: str | None = None,
        last_assistant: LastAssistant = "drop",
        filter: dict[str, Any] | None = None,
        reward: Reward | None = None,
        validation_path: list[str] | str | None = None,
        validation_split: str | None = None,
        validation_size: int | None = 64,
    ) -> None:
        if validation_size is not None and validation_size < 0:
            raise ConfigError(
                f"task.validation_size must be at least 0 or null, got {validation_size}"
            )
        if template is not None and "{problem}" not in template:
            raise ConfigError(f"task.template={template}: expected {{problem}} in it")
        self.tables = find_tables("task.path", path, name, subset, split)
        first = self.tables[0]
        self.name = name or (first.file.stem if first.file else Path(first.source).name)
        self.reward = reward or Math()
        self.reader = RowReader(
            self.name,
            prompt,
            answer,
            _compiled(pattern),
            template,
            system,
            last_assistant,
            self.reward.takes_any_answer,
        )
        self.filter = {
            column: value if isinstance(value, list) else [value]
            for column, value in (filter or {}).items()
        }
        self.validation_size = validation_size
        self.validation_tables: list[Table] | None = None
        if validation_path is not None:
            self.validation_tables = find_tables(
                "task.validation_path", validation_path, name, None, validation_split or split
            )
        elif validation_split is not None and all(table.file is None for table in self.tables):
            self.validation_tables = find_tables("task.path", path, name, subset, validation_split)

    def train_problems(self) -> ProblemSet:
        if self.validation_tables is not None or self.validation_size == 0:
            return _collect(self._outcomes(self.tables))
        if self.validation_size is None:
            raise self._nothing_left("null")
        outcomes = self._outcomes(self.tables)
        first = _collect(outcomes, self.validation_size, distinct=True)
        held_out = {problem.key for problem in first.problems}
        rest = _collect(outcomes)
        problems = [problem for problem in rest.problems if problem.key not in held_out]
        copies = len(rest.problems) - len(problems)
        if not first.problems:  # the first pass has read all rows, and tells why none is a problem
            return first
        if not problems and not first.bad_rows and not rest.bad_rows:
            raise self._nothing_left(self.validation_size)
        if not problems:
            rest.bad_rows = first.bad_rows + rest.bad_rows
        filtered, kept_back = rest.filtered + copies, len(first.problems)
        return ProblemSet(problems, rest.bad_rows, filtered, kept_back)

    def validation_problems(self) -> ProblemSet:
        if self.validation_size == 0:
            raise ConfigError(
                f"task.validation_size=0 leaves no problem of {self.source} to validate on: set "
                "another (null takes all of task.validation_path), or name benchmarks "
                "(benchmark=all or benchmark=NAME,NAME)"
            )
        if self.validation_tables is not None:
            return _collect(self._outcomes(self.validation_tables), self.validation_size)
        held_out = self.validation_size is not None
        return _collect(self._outcomes(self.tables), self.validation_size, distinct=held_out)

    def _outcomes(self, tables: list[Table]) -> Iterator[Problem | str | None]:
        return chain.from_iterable(map(self._outcomes_of, tables))

    def _outcomes_of(self, table: Table) -> Iterator[Problem | str | None]:
        """For each row its problem, or why it is a bad row, or None if it is filtered out."""
        missing, columns = Counter[str](), dict[str, None]()
        objects = filtered = 0
        elsewhere: set[str] = set()
        rows = progress_bar(
            iterable=table.rows(),
            desc=f"read {table.source}",
            unit=" rows",
            delay=_LONG,
            leave=False,
            disable=World().rank > 0,
        )
        number = None
        for number, row in rows:
            place = f"{table.source}, row {number}"
            try:
                if isinstance(row, BadRow):
                    raise row
                if not isinstance(row, dict):
                    raise BadRow(f"expected an object, got {type(row).__name__}")
                objects += 1
                if self._is_filtered(row):
                    filtered += 1
                    elsewhere |= row.keys()
                    yield None
                else:
                    yield self.reader.read(row, place)
            except BadRow as reason:
                if isinstance(reason, MissingColumn):
                    missing[reason.column] += 1
                    columns |= dict.fromkeys(row)
                yield f"{place}: {reason}"
        if number is None:
            raise ConfigError(f"{table.source} has no rows")
        for column, count in missing.items():
            if count == objects - filtered and column not in elsewhere:
                raise ConfigError(
                    f"{table.source}: no row has the column {column}; there are "
                    f"{', '.join(columns)}: set task.prompt, task.answer and task.filter to these"
                )

    def _is_filtered(self, row: dict[str, Any]) -> bool:
        return any(value_at(row, column) not in values for column, values in self.filter.items())

    @property
    def source(self) -> str:
        return ", ".join(table.source for table in self.tables)

    def _nothing_left(self, size: int | str) -> ConfigError:
        return ConfigError(
            f"task.validation_size={size} holds out all problems of {self.source}, so that "
            "none is left to train on: set a lower number (0 if the run validates on benchmarks), "
            "or give task.validation_path (a file has no splits)"
        )


def _collect(
    outcomes: Iterator[Problem | str | None], size: int | None = None, distinct: bool = False
) -> ProblemSet:
    """Takes rows until there are `size` problems. If `distinct`, copies are filtered out."""
    found, keys = ProblemSet([]), set()
    for outcome in outcomes:
        if outcome is None or (isinstance(outcome, Problem) and distinct and outcome.key in keys):
            found.filtered += 1
        elif isinstance(outcome, str):
            found.bad_rows.append(outcome)
        else:
            found.problems.append(outcome)
            keys.add(outcome.key)
            if len(found.problems) == size:
                break
    return found


def _compiled(pattern: str | None) -> re.Pattern | None:
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"task.pattern={pattern}: no regular expression ({error})") from error
    if compiled.groups == 0:
        raise ConfigError(f"task.pattern={pattern}: expected a group, (...), that is the problem")
    return compiled
