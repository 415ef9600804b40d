"""Words and files as keys and values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stapo_pl.core.errors import ConfigError

# Flags without a value.
_BARE = ("plan", "print_config", "help", "h")


@dataclass
class Unit:
    """A flag of a command line with its value."""

    words: list[str]
    """As they were given: `--key=value`, or `--key` and `value`."""
    key: str
    value: str | None
    """None for a flag without a value."""


def units(args: list[str]) -> Iterator[Unit]:
    """The flags of a command line."""
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
    """The settings of a YAML.

    Raises:
        ConfigError: it is not there, or no YAML of settings.
    """
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: cannot be read as YAML: {error}") from None
    if content is not None and not isinstance(content, dict):
        raise ConfigError(f"{file}: expected settings, KEY: VALUE, got {str(content)[:50]}")
    return content


def leaves(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Those of a value that may be a mapping, each as a word would have it."""
    value = as_mapping(value)
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(f"{key}.{name}", inner)
    else:
        yield key, as_text(value)


def as_mapping(value: Any) -> Any:
    """A mapping, where a word is one; any other value as it is."""
    if isinstance(value, str) and value.startswith("{"):
        with suppress(yaml.YAMLError):
            return yaml.safe_load(value)
    return value


def as_text(value: Any) -> str:
    """A value of a YAML as a word would have it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def place_of(key: str) -> str:
    """`model.objective` for its class_path, `model.objective.tau_p` for one of its init_args."""
    return ".".join(part for part in key.split(".") if part not in ("class_path", "init_args"))
