"""A parser that answers a mistake in one line, with the nearest known name."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningArgumentParser

from stapo_pl.cli.grammar import Grammar
from stapo_pl.cli.hints import nearest, suggest
from stapo_pl.cli.kinds import (
    MANY,
    accepts,
    accepts_plainly,
    arguments,
    choices,
    classes,
    describe,
    find_class,
    is_settings,
    items,
    literals,
    required,
    settings,
    why_not,
)
from stapo_pl.core.errors import ConfigError

# How jsonargparse passes on the error of a class that may also be left out.
_REFUSAL = re.compile(r".*Errors: - (.*?) - Expected a <class 'NoneType'>")
# What may be the name of a class.
_NAME = re.compile(r"[A-Za-z_][\w.]*")
# Flags without a value.
_BARE = ("plan", "print_config", "help", "h")


class HelpfulParser(LightningArgumentParser):
    """Reports a mistake in one line."""

    def error(self, message: str, ex: Exception | None = None) -> None:
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        sys.exit(2)


def refusal(error: ValueError) -> str | None:
    """What a class that may also be left out said of its settings, as jsonargparse passes it on."""
    found = _REFUSAL.match(" ".join(str(error).split()))
    return found and found[1]


class Words:
    """The words of a command line, checked one after another before the parser takes them.

    Args:
        parser: of them.
        grammar: likewise.
        config_dir: of the YAMLs.
        kinds: types of keys that take less than the parser does.
    """

    def __init__(
        self,
        parser: ArgumentParser,
        grammar: Grammar,
        config_dir: Path,
        kinds: dict[str, Any] | None = None,
    ) -> None:
        self.parser, self.grammar, self.config_dir = parser, grammar, config_dir
        self.kinds = kinds or {}
        self.given: set[str] = set()
        """All keys that the words set."""
        self._chosen: dict[str, str] = {}
        """What is at a key, after the words so far: where classes go, the name of one."""

    def check(self, args: list[str]) -> None:
        """Checks that each key is there and takes its value.

        Raises:
            ConfigError: names the first that is wrong, and what is accepted.
        """
        given = [setting for key, text in _units(args) for setting in self._settings(key, text)]
        self.given = {_place(leaf) for setting in given for leaf, _ in _leaves(*setting)}
        for setting in _read(self.config_dir / self.grammar.defaults).items():
            self._choose(*setting)
        for key, value in given:
            self._choose(key, value)
            self._check(self.parser, "", _place(key).split("."), value)

    def _choose(self, key: str, value: Any) -> None:
        for leaf, text in _leaves(key, value):
            self._chosen[_place(leaf)] = text

    def _settings(self, key: str, text: str) -> list[tuple[str, Any]]:
        """What a word sets: itself, or what is in the file that it names."""
        group = self.grammar.groups.get(key)
        if key in ("config", "c"):
            return list(_read(Path(text)).items())
        if text.endswith((".yaml", ".yml")) and Path(text).is_file():
            return [(key, _read(Path(text)))]
        if group is not None and key not in (group.key, group.file):
            raise ConfigError(f"{key}: give it as a word, {key}=NAME; in a YAML it is {group.key}")
        return [(key, text)]

    def _check(self, parser: ArgumentParser, place: str, parts: list[str], value: Any) -> None:
        """Goes down from the settings of a parser, which are those at a place."""
        actions = {action.dest: action for action in parser._actions}
        # The longest name first: data.validation.samples is one.
        prefixes = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
        name = next((prefix for prefix in prefixes if prefix in actions), None)
        at = f"{place}.{name}" if place else name
        rest = parts[name.count(".") + 1 :] if name else parts
        kind = name and self.kinds.get(at, getattr(actions[name], "_typehint", None))
        if name is None or (kind is None and rest):
            raise ConfigError(self._no_key(actions, place, parts))
        if rest:
            self._check_inside(kind, at, rest, value)
        elif kind is not None:
            self._check_value(kind, at, value)
        elif isinstance(value := _mapping(value), dict):
            for inner, its in value.items():
                self._check(parser, place, [*parts, *_place(inner).split(".")], its)
        elif names := [n for n in actions if n.startswith(f"{at}.") and n != f"{at}.help"]:
            meant = f"; did you mean {at}.path={value}?" if f"{at}.path" in names else ""
            names = [self.grammar.as_given(name) for name in names if not name.endswith(".help")]
            raise ConfigError(
                f"{at}={value}: {at} is a group of settings, such as {', '.join(names[:3])}{meant}"
            )

    def _check_inside(self, kind: Any, at: str, parts: list[str], value: Any) -> None:
        """A key of a mapping or a class."""
        where = self.grammar.as_given(at)
        given = f"{where}.{parts[0]}"
        if (item := items(kind)) is not None:
            at = f"{at}.{parts[0]}"
            if item is not Any:
                inside = parts[1:]
                (self._check_inside if inside else self._check_value)(
                    item, at, *([inside] if inside else []), value
                )
        elif not (possible := classes(kind)):
            raise ConfigError(f"{given}: no such key; {where} takes {describe(kind)}")
        elif is_settings(possible[0]):
            self._check(settings(possible[0]), at, parts, value)
        elif (name := self._chosen.get(at, "")).startswith("["):
            return  # of the last in a list, which is left to the parser
        elif (cls := find_class(kind, name)) is None:
            raise ConfigError(f"{given}: choose what has it first, as in {where}=NAME {given}=...")
        else:
            others = choices(kind) if parts[0] not in arguments(cls) else {}
            if len(others) <= MANY and (
                having := [name for name, other in others.items() if parts[0] in arguments(other)]
            ):
                raise ConfigError(
                    f"{given}: {cls.__name__} has no such key; {', '.join(sorted(having))} "
                    f"{'have' if having[1:] else 'has'} it"
                )
            self._check(settings(cls), at, parts, value)

    def _check_value(self, kind: Any, at: str, value: Any) -> None:
        value, text = _mapping(value), _text(value)
        word = f"{self.grammar.as_given(at)}={text}"
        if "${" in text:  # an interpolation, which is filled in later
            return
        if isinstance(value, dict) and (classes(kind) or classes(items(kind))):
            for inner, its in value.items():
                if inner == "init_args":
                    self._check_value(kind, at, its)
                elif inner == "class_path":
                    self._check_value(kind, at, str(its))
                else:
                    self._check_inside(kind, at, _place(inner).split("."), its)
        elif not classes(kind):
            if not accepts(kind, text):
                near = nearest(text, literals(kind))
                raise ConfigError(f"{word}: expected {describe(kind)}{near}")
        elif accepts_plainly(kind, text):
            return
        elif (cls := find_class(kind, text)) is not None:
            for name in required(kind, cls):
                if not any(f"{key}.".startswith(f"{at}.{name}.") for key in self.given):
                    raise ConfigError(f"{word}: needs {self.grammar.as_given(f'{at}.{name}')}=...")
        else:
            if text == "null" or not choices(kind) or not _NAME.fullmatch(text):
                raise ConfigError(f"{word}: expected {describe(kind)}")
            if "." in text:
                raise ConfigError(f"{word}: {why_not(kind, text)}")
            names = sorted(choices(kind))
            there = f"; there are {', '.join(names)}" if len(names) <= MANY else ""
            raise ConfigError(f"{word}: no such class{nearest(text, names)}{there}")

    def _no_key(self, actions: Iterable[str], place: str, parts: list[str]) -> str:
        names = [name for name in actions if not name.endswith("help")]
        known = {self.grammar.as_given(f"{place}.{n}" if place else n) for n in names}
        key = self.grammar.as_given(".".join([place, *parts] if place else parts))
        return f"{key}: no such key{suggest(key, known | self.grammar.known(self.config_dir))}"


def _units(args: list[str]) -> Iterator[tuple[str, str]]:
    """Keys and values of a command line; flags without a value are left out."""
    words = iter(args)
    for word in words:
        key, is_joined, value = word.lstrip("-").partition("=")
        if not is_joined:
            value = next(words, "--") if key not in _BARE else "--"
        if not value.startswith("--") and not key.endswith("help"):
            yield key.removesuffix("+"), value


def _read(file: Path) -> Any:
    """The settings of a YAML."""
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: cannot be read as YAML: {error}") from None
    if content is not None and not isinstance(content, dict):
        raise ConfigError(f"{file}: expected settings, KEY: VALUE, got {str(content)[:50]}")
    return content


def _leaves(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Those of a value that may be a mapping, each as a word would have it."""
    value = _mapping(value)
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    else:
        yield key, _text(value)


def _mapping(value: Any) -> Any:
    """A mapping, where a word is one."""
    if isinstance(value, str) and value.startswith("{"):
        with suppress(yaml.YAMLError):
            return yaml.safe_load(value)
    return value


def _text(value: Any) -> str:
    """A value of a YAML as a word would have it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _place(key: str) -> str:
    """`model.objective` for its class_path, `model.objective.tau_p` for one of its init_args."""
    return ".".join(part for part in key.split(".") if part not in ("class_path", "init_args"))
