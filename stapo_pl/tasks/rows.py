"""Makes a problem of a row of any table."""

from __future__ import annotations

import json
import math
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from stapo_pl.core.types import Problem
from stapo_pl.tasks.tables import BadRow, parse_json

_VERL_COLUMNS = ("prompt", "reward_model")
LastAssistant = Literal["drop", "bad_row"]


class MissingColumn(BadRow):
    """The row lacks a column."""

    def __init__(self, column: str) -> None:
        super().__init__(f"column {column} is missing")
        self.column = column


def value_at(row: dict[str, Any], column: str) -> Any:
    """The value in a column of a row.

    The column `a.b` means b inside a, and `a.0` means the first entry of the list a. Here `a` may
    be JSON text.

    Raises:
        MissingColumn: the row has no such column.
    """
    value: Any = row
    for key in [column] if column in row else column.split("."):
        value = _from_json(value)
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
    """Makes problems of rows. `Dataset` explains the fields."""

    name: str
    prompt: str
    answer: str
    pattern: re.Pattern | None
    template: str | None
    system: str | None
    last_assistant: LastAssistant = "drop"
    any_answer: bool = False
    """Whether the reward takes answers of any kind, as JSON text."""

    def read(self, row: dict[str, Any], place: str) -> Problem:
        """The problem of a row.

        Args:
            row: values by column.
            place: file and number of the row, for messages.

        Raises:
            BadRow: no problem can be made of it.
        """
        is_verl = all(column in row for column in _VERL_COLUMNS)
        prompt, answer = self.prompt, self.answer
        if is_verl:
            prompt = prompt if _has(row, prompt) else "prompt"
            answer = answer if _has(row, answer) else "reward_model.ground_truth"
        messages, solution_dropped = self._messages(value_at(row, prompt), prompt)
        source, extra = (row.get("data_source"), row.get("extra_info")) if is_verl else (None, None)
        extra = _from_json(extra)
        if not isinstance(extra, dict | None):
            raise BadRow(f"extra_info is {_shown(extra)}, expected an object")
        return Problem(
            messages,
            self._answer(value_at(row, answer), answer),
            source if isinstance(source, str) else self.name,
            extra or {},
            place,
            solution_dropped,
        )

    def _answer(self, value: Any, column: str) -> str:
        """The answer as text. A number is written as in the file, if the format keeps that."""
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            if not math.isfinite(value):
                raise BadRow(f"{column} is {value}, expected a finite number")
            return str(value)
        if not isinstance(value, list | dict | bool):
            return _text(value, column)
        if not self.any_answer:
            raise BadRow(
                f"{column} is {_shown(value)}, expected text or a number; only reward=function "
                "takes others, as JSON text"
            )
        try:
            return _text(json.dumps(value, ensure_ascii=False), column)
        except TypeError as error:  # for example a date in a parquet file
            raise BadRow(f"{column} is {_shown(value)}, which JSON cannot hold ({error})") from None

    def _messages(self, value: Any, column: str) -> tuple[list[dict[str, str]], bool]:
        """The messages of the prompt, and whether a solution after them was dropped."""
        value = _without_nulls(_messages_of_json(value))
        if isinstance(value, str):
            value = [{"role": "user", "content": value}]
        if not isinstance(value, list) or not all(map(_is_message, value)):
            raise BadRow(
                f"{column} is {_shown(value)}, expected text or chat messages (role, content)"
            )
        if not value:
            raise BadRow(f"{column} is empty")
        messages = list(value)
        while messages and messages[-1]["role"] == "assistant":
            messages.pop()
        solution_dropped = len(messages) < len(value)
        if solution_dropped and self.last_assistant == "bad_row":
            raise BadRow(f"{column} ends with a message of the assistant")
        if not messages:
            raise BadRow(f"{column} has no message that is not the assistant's")
        for message in messages:
            _check_unicode(message["content"], column)
        # The last message need not be the user's, as a tool's answer may follow it.
        users = [i for i, message in enumerate(messages) if message["role"] == "user"]
        place = users[-1] if users else -1
        last = messages[place]
        content = self._in_template(self._problem(_text(last["content"], column), column))
        # `intern` keeps one copy of equal texts: DAPO-Math-17k has each problem a hundred times.
        messages[place] = {**last, "content": sys.intern(content)}
        if self.system is not None and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": self.system})
        return messages, solution_dropped

    def _problem(self, text: str, column: str) -> str:
        if self.pattern is None:
            return text
        match = self.pattern.search(text)
        if match is None or match[1] is None:
            raise BadRow(f"{column} does not match task.pattern: {_shown(text)}")
        return _text(match[1], f"the problem in {column}")

    def _in_template(self, problem: str) -> str:
        template = self.template or "{problem}"
        # An empty box asks for an answer in a box. A full one is part of a solved example, as in
        # Minerva's prompts.
        if r"\boxed{}" in template and r"\boxed{}" in problem:
            return problem
        return template.replace("{problem}", problem)


def _from_json(value: Any) -> Any:
    """The object or list that JSON text stands for. Any other value is returned as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        with suppress(ValueError, RecursionError):
            return parse_json(value)
    return value


def _messages_of_json(value: Any) -> Any:
    """Reads text that is a list of messages in JSON. A problem may begin with [ too."""
    read = _from_json(value)
    is_chat = isinstance(read, list) and read and all(isinstance(m, dict) for m in read)
    return read if is_chat and all("role" in message for message in read) else value


def _without_nulls(value: Any) -> Any:
    """The value without keys whose value is null.

    Tables give all objects of a column the same keys, and fill in null. But chat templates ask
    whether a message has a key.
    """
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


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
