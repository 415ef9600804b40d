"""From a row of any table to a problem."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from stapo_pl.problems import Problem
from stapo_pl.tasks.tables import BadRow

_VERL_COLUMNS = ("prompt", "reward_model")


class MissingColumn(BadRow):
    """A row has no such column."""

    def __init__(self, column: str) -> None:
        super().__init__(f"column {column} is missing")
        self.column = column


def value_at(row: dict[str, Any], column: str) -> Any:
    """What a row has in a column; `a.b` is b inside a, `a.0` the first of the list a.

    Raises:
        MissingColumn: nothing.
    """
    value: Any = row
    for key in [column] if column in row else column.split("."):
        try:
            value = value[int(key) if isinstance(value, list) else key]
        except (KeyError, IndexError, TypeError, ValueError):
            raise MissingColumn(column) from None
    return value


def _has(row: dict[str, Any], column: str) -> bool:
    with suppress(MissingColumn):
        value_at(row, column)
        return True
    return False


@dataclass
class RowReader:
    """Makes problems of rows; `Dataset` says what its fields mean."""

    name: str
    prompt: str
    answer: str
    pattern: re.Pattern | None
    template: str | None
    system: str | None

    def read(self, row: dict[str, Any], place: str) -> Problem:
        """The problem of a row.

        Raises:
            BadRow: it has none.
        """
        is_verl = all(column in row for column in _VERL_COLUMNS)
        prompt, answer = self.prompt, self.answer
        if is_verl:
            prompt = prompt if _has(row, prompt) else "prompt"
            answer = answer if _has(row, answer) else "reward_model.ground_truth"
        messages = self._messages(value_at(row, prompt), prompt)
        source, extra = (row.get("data_source"), row.get("extra_info")) if is_verl else (None, None)
        if not isinstance(extra, dict | None):
            raise BadRow(f"extra_info is {_shown(extra)}, expected an object")
        return Problem(
            messages,
            _text(value_at(row, answer), answer),
            source if isinstance(source, str) else self.name,
            extra or {},
            place,
        )

    def _messages(self, value: Any, column: str) -> list[dict[str, str]]:
        if isinstance(value, str):
            value = [{"role": "user", "content": value}]
        if not isinstance(value, list) or not all(map(_is_message, value)):
            raise BadRow(
                f"{column} is {_shown(value)}, expected text or chat messages (role, content)"
            )
        if not value:
            raise BadRow(f"{column} is empty")
        *earlier, last = value
        for message in earlier:
            _check_unicode(message["content"], column)
        content = self._in_template(self._problem(_text(last["content"], column), column))
        # One copy of equal texts: DAPO-Math-17k has each of its problems a hundred times.
        content = sys.intern(content)
        messages = [*earlier, {**last, "content": content}]
        if self.system is not None and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": self.system})
        return messages

    def _problem(self, text: str, column: str) -> str:
        if self.pattern is None:
            return text
        match = self.pattern.search(text)
        if match is None or match[1] is None:
            raise BadRow(f"{column} does not match task.pattern: {_shown(text)}")
        return _text(match[1], f"the problem in {column}")

    def _in_template(self, problem: str) -> str:
        template = self.template or "{problem}"
        # An empty box asks for one. A full one is of a part that is solved, as in Minerva's.
        if r"\boxed{}" in template and r"\boxed{}" in problem:
            return problem
        return template.replace("{problem}", problem)


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(key), str) for key in ("role", "content")
    )


def _text(value: Any, column: str) -> str:
    if not isinstance(value, str):
        raise BadRow(f"{column} is {_shown(value)}, expected text")
    if not value.strip():
        raise BadRow(f"{column} is empty")
    _check_unicode(value, column)
    return value


def _check_unicode(text: str, column: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRow(f"{column} is no Unicode text ({error.reason})") from None


def _shown(value: Any) -> str:
    text = repr(value)
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return shown if isinstance(value, str) else f"{shown} ({type(value).__name__})"
