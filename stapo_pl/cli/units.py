"""Splits command lines and YAML files into keys and values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stapo_pl.core.errors import ConfigError

# The flags that have no value.
_BARE = ("plan", "print_config", "help", "h")


@dataclass
class Unit:
    """A flag of a command line with its value."""

    words: list[str]
    """The words as they were given: either `--key=value`, or `--key` and `value`."""
    key: str
    """The key, without dashes."""
    value: str | None
    """The value as text. None for a flag without a value."""


def units(args: list[str]) -> Iterator[Unit]:
    """Yields the flags of a command line, in order."""
    waiting = iter(args)
    for word in waiting:
        key, is_joined, value = word.lstrip("-").partition("=")
        words = [word]
        if not is_joined and key not in _BARE:
            value = next(waiting, "--")
            words += [value] * (value != "--")
        is_bare = not is_joined and (key in _BARE or value.startswith("--"))
        yield Unit(words, key, None if is_bare or key.endswith("help") else value)


def read(file: Path) -> Any:
    """Returns the settings of a YAML file.

    Raises:
        ConfigError: the file does not exist, or it does not hold keys and values.
    """
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: cannot be read as YAML: {error}") from None
    if content is not None and not isinstance(content, dict):
        raise ConfigError(f"{file}: expected settings, KEY: VALUE, got {str(content)[:50]}")
    return content


def leaves(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yields all keys and values inside a value, which may be a mapping. Values are texts."""
    value = as_mapping(value)
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(f"{key}.{name}", inner)
    else:
        yield key, as_text(value)


def as_mapping(value: Any) -> Any:
    """Returns the mapping that a text holds. Any other value is returned unchanged."""
    if isinstance(value, str) and value.startswith("{"):
        with suppress(yaml.YAMLError):
            return yaml.safe_load(value)
    return value


def as_list(value: Any) -> Any:
    """Returns the list that a text holds. Any other value is returned unchanged."""
    if isinstance(value, str) and value.startswith("["):
        with suppress(yaml.YAMLError):
            return yaml.safe_load(value)
    return value


def as_text(value: Any) -> str:
    """Returns a value of a YAML file as the text that a word would give."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def place_of(key: str) -> str:
    """Returns a key without `class_path` and `init_args`.

    This is `model.objective.tau_p` for `model.objective.init_args.tau_p`.
    """
    return ".".join(part for part in key.split(".") if part not in ("class_path", "init_args"))
