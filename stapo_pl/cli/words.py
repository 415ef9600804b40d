"""Checks and completes the words of a command line before the parser takes them.

The parser's own messages are long and do not say what is accepted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from stapo_pl.cli.classes import complete, complete_inside
from stapo_pl.cli.grammar import Grammar
from stapo_pl.cli.hints import elsewhere, nearest, suggest
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
    listed,
    literals,
    members,
    required,
    settings,
    why_not,
)
from stapo_pl.cli.units import Unit, as_list, as_mapping, as_text, leaves, place_of, read, units
from stapo_pl.core.errors import ConfigError

# A text that can be the name of a class.
_NAME = re.compile(r"[A-Za-z_][\w.]*")


class Words:
    """Checks the words of a command line one after another.

    Args:
        parser: the parser that takes the words afterwards.
        grammar: the words that the command understands.
        config_dir: the folder of the YAML files.
        kinds: the types of keys that accept less than the parser does.
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
        self._typed = [action for action in parser._actions if hasattr(action, "_typehint")]
        self.given: set[str] = set()
        """All keys that the words set."""
        self._chosen: dict[str, str] = {}
        """The value of each key after the words so far. For a class it is the name."""
        self._coming: set[str] = set()
        """All keys that the present word and the words after it set."""
        self._is_in_bundle = False
        """Whether the present word sets a key of a bundle (see `kinds.py`) inside a class."""

    def check(self, args: list[str]) -> list[str]:
        """Checks that every key exists and accepts its value.

        Returns:
            The words for the parser: first the defaults of the YAML file, then these words. Every
            class that is named has all of its arguments, see `classes.py`.

        Raises:
            ConfigError: a word is wrong. The message names it, and what is accepted.
        """
        defaults = complete_inside(self.parser, read(self.config_dir / self.grammar.defaults))
        for setting in defaults.items():
            self._choose(*setting)
        taken = [f"--config={json.dumps(defaults, default=str)}"]
        flags = list(units(args))
        given = [self._settings(flag) for flag in flags]
        places = [{place_of(leaf) for s in each for leaf, _ in leaves(*s)} for each in given]
        self.given = {self.grammar.in_full(place) for place in set().union(*places)}
        for i, (flag, each) in enumerate(zip(flags, given, strict=True)):
            self._coming = set().union(*places[i:])
            taken += self._take(flag, each)
        return taken

    def _take(self, flag: Unit, given: list[tuple[str, Any]]) -> list[str]:
        """Checks and completes the settings of a flag, and returns words for the parser."""
        self._is_in_bundle = False
        whole = {}
        for short, value in given:
            key = self._in_full(short)
            self._choose(key, value)
            whole[key] = self._check(self.parser, "", place_of(key).split("."), value)
        if flag.key in ("config", "c"):
            return [f"--config={json.dumps(whole, default=str)}"]
        if flag.key.endswith("+") or not whole:
            return flag.words
        ((key, value),) = whole.items()
        if self._is_in_bundle and value in ("null", None):
            # jsonargparse would take this null for the text "null" if it stood alone.
            key, _, name = key.rpartition(".")
            value = {name: None}
        elif (key, value) == (flag.key, flag.value):
            return flag.words
        return [f"--{key}={value if isinstance(value, str) else json.dumps(value, default=str)}"]

    def _in_full(self, key: str) -> str:
        """Returns the full key of a short one.

        If the chosen class itself has an argument of this name, the key is full already.
        """
        for short in self.grammar.short:
            place, _, name = short.rpartition(".")
            if f"{key}.".startswith(f"{short}."):
                kind = next(a._typehint for a in self._typed if a.dest == place)
                cls = find_class(kind, self._chosen.get(place, ""))
                return key if cls and name in arguments(cls) else self.grammar.in_full(key)
        return key

    def _choose(self, key: str, value: Any) -> None:
        """Notes the value that a key has from now on."""
        place = f"{place_of(key)}."
        if isinstance(value, dict) and "class_path" in value:
            chosen = self._chosen.items()
            self._chosen = {at: text for at, text in chosen if not at.startswith(place)}
        for leaf, text in leaves(key, value):
            self._chosen[place_of(leaf)] = text

    def _settings(self, flag: Unit) -> list[tuple[str, Any]]:
        """Returns the keys and values that a flag sets. If it names a file, these are in it."""
        if flag.value is None:
            return []
        key, text = flag.key.removesuffix("+"), flag.value
        group = self.grammar.groups.get(key)
        if key in ("config", "c"):
            return list(read(Path(text)).items())
        kind = next((a._typehint for a in self._typed if a.dest == key), None)
        is_file = text.endswith((".yaml", ".yml")) and Path(text).is_file()
        if is_file and str not in members(kind):
            return [(key, read(Path(text)))]
        if group is not None and key not in (group.key, group.file):
            raise ConfigError(f"{key}: give it as a word, {key}=NAME; in a YAML it is {group.key}")
        return [(key, text)]

    def _check(self, parser: ArgumentParser, place: str, parts: list[str], value: Any) -> Any:
        """Checks a value, and returns it completed.

        Args:
            parser: the parser of the settings at a place.
            place: the key of this place. It is empty at the top.
            parts: the rest of the key below this place.
            value: the value.
        """
        actions = {action.dest: action for action in parser._actions}
        # The longest name is tried first, because names may contain dots, such as
        # data.validation.samples.
        prefixes = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
        name = next((prefix for prefix in prefixes if prefix in actions), None)
        at = f"{place}.{name}" if place else name
        rest = parts[name.count(".") + 1 :] if name else parts
        kind = name and self.kinds.get(at, getattr(actions[name], "_typehint", None))
        if name is None or (kind is None and rest):
            raise ConfigError(self._no_key(actions, place, parts))
        if rest:
            return self._check_inside(kind, at, rest, value)
        if kind is not None:
            self._is_in_bundle |= bool(place) and "." in name
            return self._check_value(kind, at, value)
        if isinstance(value := as_mapping(value), dict):
            return {
                inner: self._check(parser, place, [*parts, *place_of(inner).split(".")], its)
                for inner, its in value.items()
            }
        if names := [n for n in actions if n.startswith(f"{at}.") and n != f"{at}.help"]:
            meant = f"; did you mean {at}.path={value}?" if f"{at}.path" in names else ""
            names = [self.grammar.as_given(name) for name in names if not name.endswith(".help")]
            raise ConfigError(
                f"{at}={value}: {at} is a group of settings, such as {', '.join(names[:3])}{meant}"
            )
        return value

    def _check_inside(self, kind: Any, at: str, parts: list[str], value: Any) -> Any:
        """Checks a key that lies inside a mapping or a class, and returns its value completed."""
        where = self.grammar.as_given(at)
        given = self.grammar.as_given(f"{at}.{parts[0]}")
        if (item := items(kind)) is not None:
            if item is Any:
                return value
            at, inside = f"{at}.{parts[0]}", parts[1:]
            if inside:
                return self._check_inside(item, at, inside, value)
            return self._check_value(item, at, value)
        if not (possible := classes(kind)):
            raise ConfigError(f"{given}: no such key; {where} takes {describe(kind)}")
        if is_settings(possible[0]):
            self._is_in_bundle = True
            return self._check(settings(possible[0]), at, parts, value)
        name, of_list = self._chosen.get(at, ""), ""
        if name.startswith("["):
            # The parser takes the key for one of the last item.
            kind, name = listed(kind), (as_list(name) or [{}])[-1].get("class_path", "")
            of_list = f"; of the list {where}, a key sets the last item"
        cls = find_class(kind, name)
        if cls is not None and parts[0] in arguments(cls):
            return self._check(settings(cls), at, parts, value)
        having = sorted(n for n, other in choices(kind).items() if parts[0] in arguments(other))
        having = having if len(choices(kind)) <= MANY else []
        if cls is None:
            is_one = len(having) == 1 and where not in self.grammar.groups
            without = f"{where} is null, " if name == "null" else ""
            words = f"{where}={having[0] if is_one else 'NAME'} {given}=..."
            names = f"; NAME is one of {', '.join(having)}" if len(having) > 1 else ""
            raise ConfigError(f"{given}: {without}choose what has it first, as in {words}{names}")
        if (full := self.grammar.in_full(f"{at}.{parts[0]}")) != f"{at}.{parts[0]}":
            raise ConfigError(f"{given}: in a YAML it is {full}")
        if having:
            raise ConfigError(
                f"{given}: {cls.__name__} has no such key; {', '.join(having)} "
                f"{'have' if having[1:] else 'has'} it{of_list}"
            )
        return self._check(settings(cls), at, parts, value)

    def _check_value(self, kind: Any, at: str, value: Any) -> Any:
        given, value, text = value, as_mapping(value), as_text(value)
        word = f"{self.grammar.as_given(at)}={text}"
        if "${" in text:  # OmegaConf fills in this reference to another key later
            return given
        if isinstance(several := as_list(value), list) and (item := listed(kind)) is not None:
            found = [self._check_item(item, at, inner) for inner in several]
            self._choose(at, found)
            return found
        if isinstance(value, dict) and (classes(kind) or classes(items(kind))):
            self._choose(at, complete(kind, value))
            return complete(kind, {key: self._inner(kind, at, key, value[key]) for key in value})
        if not classes(kind):
            if not accepts(kind, text):
                near = elsewhere(at, text) or nearest(text, literals(kind))
                raise ConfigError(f"{word}: expected {describe(kind)}{near}")
        elif accepts_plainly(kind, text):
            pass
        elif (cls := find_class(kind, text)) is not None:
            for name in required(kind, cls):
                if not any(f"{key}.".startswith(f"{at}.{name}.") for key in self._coming):
                    raise ConfigError(f"{word}: needs {self.grammar.as_given(f'{at}.{name}')}=...")
            self._choose(at, complete(kind, text))
            return complete(kind, text)
        else:
            raise ConfigError(f"{word}: {_why_no_class(kind, text)}")
        return given

    def _check_item(self, kind: Any, at: str, value: Any) -> Any:
        """Checks an item of a list. What its class needs may be given inside of it."""
        coming = self._coming
        self._coming = coming | {place_of(leaf) for leaf, _ in leaves(at, value)}
        found = self._check_value(kind, at, value)
        self._coming = coming
        return found

    def _inner(self, kind: Any, at: str, key: str, value: Any) -> Any:
        """Checks one key of a mapping that names a class or sets its arguments."""
        if key == "class_path":
            self._check_value(kind, at, str(value))
            return value
        if key == "init_args":
            return self._check_value(kind, at, value)
        return self._check_inside(kind, at, place_of(key).split("."), value)

    def _no_key(self, actions: Iterable[str], place: str, parts: list[str]) -> str:
        names = [name for name in actions if not name.endswith("help")]
        known = {self.grammar.as_given(f"{place}.{n}" if place else n) for n in names}
        key = self.grammar.as_given(".".join([place, *parts] if place else parts))
        if (name := self.grammar.now_called(key)) != key:
            return f"{key}: it is called {name} now"
        return f"{key}: no such key{suggest(key, known | self.grammar.known(self.config_dir))}"


def _why_no_class(kind: Any, text: str) -> str:
    """Returns why a text that should name a class does not."""
    if text == "null" or not choices(kind) or not _NAME.fullmatch(text):
        return f"expected {describe(kind)}"
    if "." in text:
        return str(why_not(kind, text))
    names = sorted(choices(kind))
    there = f"; there are {', '.join(names)}" if len(names) <= MANY else ""
    return f"no such class{nearest(text, names)}{there}"
