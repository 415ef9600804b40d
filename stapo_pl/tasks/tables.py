"""Finds the table that a path or a hub name means, and reads its numbered rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stapo_pl.core.errors import ConfigError

Rows = Iterator[tuple[int, Any]]
_SUFFIXES = (".parquet", ".jsonl", ".json")
# Every dataset on the hub has this file, and so have copies made by git or `hf download`.
_MARK_OF_HUB = ".gitattributes"
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


class BadRow(ValueError):
    """No problem can be made of a row; the message says why."""


class WrittenFloat(float):
    """A number of a JSON file that is shown as the file writes it."""

    text: str

    def __new__(cls, text: str | float) -> WrittenFloat:
        number = super().__new__(cls, text)
        number.text = str(text)
        return number

    def __str__(self) -> str:
        return self.text


def parse_json(text: bytes | str) -> Any:
    """The value that JSON text stands for, with numbers that keep their text.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, parse_float=WrittenFloat)


@dataclass
class Table:
    """A table whose rows can be read several times."""

    source: str
    """A file, the name of a dataset of the hub, or a folder with a copy of one."""
    file: Path | None
    """The file; None if the table is a dataset of the hub or a copy of one."""
    subset: str | None = None
    """The configuration of a dataset of the hub."""
    split: str = "train"
    """The split of a dataset of the hub."""

    def rows(self) -> Rows:
        """The rows in their order, each with its number.

        A row that cannot be read is a `BadRow`. Numbers begin with 1, so that in a JSONL file they
        are those of the lines.

        Raises:
            ConfigError: the file or dataset as a whole cannot be read.
        """
        if self.file is not None and self.file.stat().st_size == 0:
            return iter(())
        if self.file is None:
            return _hub(self.source, self.subset, self.split)
        return {".parquet": _parquet, ".jsonl": _jsonl, ".json": _json}[self.file.suffix](self.file)


def find_tables(
    setting: str, paths: list[str] | str, name: str | None, subset: str | None, split: str
) -> list[Table]:
    """The tables that one path or several paths mean; see `find_table`.

    Raises:
        ConfigError: there is no such table.
    """
    if not paths:
        raise ConfigError(f"{setting}={paths}: expected a path, or a list of some")
    several = paths if isinstance(paths, list) else [paths]
    return [find_table(setting, path, name, subset, split) for path in several]


def find_table(setting: str, path: str, name: str | None, subset: str | None, split: str) -> Table:
    """The table that a path means.

    A folder means the file in it that is called `name`. A folder without such a file that was
    copied from the hub means the dataset that it is a copy of.

    Args:
        setting: the name of the path's setting, for errors.
        path: a file, a folder or a hub name.
        name: name of the file in a folder.
        subset: the configuration of a dataset of the hub.
        split: the split of a dataset of the hub.

    Raises:
        ConfigError: there is no such table, or it has another format.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        found = _file_of_folder(f"{setting}={path}", file, name)
        if found is None:
            return Table(str(file), None, subset, split)
        file = found
    elif not file.exists() and _HUB_NAME.fullmatch(path) and file.suffix not in _SUFFIXES:
        return Table(path, None, subset, split)
    if not file.is_file():
        raise ConfigError(
            f"{setting}={path}: no such file; give a .parquet, .jsonl or .json file, a folder of "
            "such files, or the name of a dataset of the hub, owner/name"
        )
    if file.suffix not in _SUFFIXES:
        raise ConfigError(f"{setting}={path}: expected a .parquet, .jsonl or .json file")
    return Table(str(file), file)


def _file_of_folder(setting: str, folder: Path, name: str | None) -> Path | None:
    """The file of a folder; None if the folder is a copy of a dataset of the hub."""
    files = sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES)
    found = [file for file in files if name and _plain(file.stem) == _plain(name)]
    if len(found) == 1:
        return found[0]
    if not found and (folder / _MARK_OF_HUB).exists():
        return None
    there = ", ".join(file.name for file in files) or "no .parquet, .jsonl or .json file"
    problem = f"has {len(found)} files" if found else "has no file"
    raise ConfigError(
        f"{setting}: the folder {problem} called task.name={name or 'null'}, whatever case and "
        f"punctuation; there is {there}"
    )


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def _parquet(file: Path) -> Rows:
    from datasets import Dataset, disable_progress_bars  # slow to import, and needed only here
    from pyarrow.parquet import read_metadata

    disable_progress_bars()
    try:
        if read_metadata(file).num_rows == 0:  # `datasets` refuses such a file
            return iter(())
        table = Dataset.from_parquet(str(file), keep_in_memory=True)
    except Exception as error:  # the user's file may hold anything
        raise ConfigError(f"{file}: no parquet file that can be read ({_reason(error)})") from error
    return _rows_of(table)


def _hub(name: str, subset: str | None, split: str) -> Rows:
    import datasets  # slow to import, and needed only here

    datasets.disable_progress_bars()
    try:
        table = datasets.load_dataset(name, subset, split=split)
    except Exception as error:  # the network, the hub and the dataset may fail in any way
        raise ConfigError(
            f"{name}: this dataset cannot be loaded with task.subset={subset or 'null'} "
            f"and split {split} ({_reason(error)}); check names and network, or give the path of a "
            "local .parquet, .jsonl or .json file"
        ) from error
    return _rows_of(table)


def _reason(error: Exception) -> str:
    # `datasets` wraps the first error in one of its own.
    first = error.__cause__ or error
    return f"{type(first).__name__}: {str(first).strip().partition(chr(10))[0]}"


def _rows_of(table: Any) -> Rows:
    # Reading batches is ten times as fast as reading row by row.
    batches = table.with_format("arrow").iter(batch_size=4096)
    return enumerate((row for batch in batches for row in batch.to_pylist()), 1)


def _jsonl(file: Path) -> Rows:
    # `datasets` does not read it: if one row has another type than the rows before it, `datasets`
    # refuses the whole file and names no row.
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, _parse(line)


def _json(file: Path) -> Rows:
    text = file.read_bytes()
    rows = _parse(text) if text.strip() else []
    if isinstance(rows, BadRow):
        raise ConfigError(f"{file}: {rows}")
    if not isinstance(rows, list):
        raise ConfigError(f"{file}: expected a list of objects; one object a line is .jsonl")
    return enumerate(rows, 1)


def _parse(text: bytes) -> Any:
    try:
        return parse_json(text)
    except (ValueError, RecursionError) as error:
        return BadRow(f"no JSON ({error})")
