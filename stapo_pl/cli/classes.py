"""Completes a value that names a class, so that it contains all arguments of the class.

This works around two habits of jsonargparse. It merges a value into the value before it, so if
another class is named, arguments with the same name keep their old values. And it keeps the
defaults of a class in one object, which one parse changes for the next. A value that contains every
argument is safe from both.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from stapo_pl.cli.kinds import accepts_plainly, classes, find_class, is_settings, items, settings


def complete(kind: Any, value: Any) -> Any:
    """Returns the value of a setting, in which every named class has all of its arguments.

    Args:
        kind: the type of the setting.
        value: the value as it was given. If it is a group of settings without a class name, some
            of them may be missing.
    """
    if isinstance(value, str):
        named = classes(kind) and not accepts_plainly(kind, value) and find_class(kind, value)
        return complete(kind, {"class_path": value}) if inspect.isclass(named) else value
    if not isinstance(value, dict):
        return value
    if (item := items(kind)) is not None:
        return {key: complete(item, inner) for key, inner in value.items()}
    if not (possible := classes(kind)):
        return value
    if is_settings(possible[0]):
        return complete_inside(settings(possible[0]), value)
    if not inspect.isclass(cls := find_class(kind, str(value.get("class_path", "")))):
        return value
    parser = settings(cls)  # type: ignore[arg-type]  # mypy does not know that classes are hashable
    given = complete_inside(parser, value.get("init_args") or {})
    whole = {"class_path": public_path(cls)}
    return value | whole | {"init_args": _merged(defaults(cls), given)}


def complete_inside(parser: ArgumentParser, value: dict[str, Any], place: str = "") -> Any:
    """Completes the values of all settings of a parser.

    Args:
        parser: the parser.
        value: the values, by the names of the settings.
        place: the beginning of their keys in the parser, with a dot at its end.
    """
    kinds = {action.dest: getattr(action, "_typehint", None) for action in parser._actions}
    found = {}
    for key, inner in value.items():
        at = place + key
        if kinds.get(at) is None and isinstance(inner, dict):
            found[key] = complete_inside(parser, inner, f"{at}.")
        else:
            found[key] = complete(kinds.get(at), inner)
    return found


def public_path(cls: type) -> str:
    """Returns the shortest import path of a class. jsonargparse uses the same path for defaults.

    It names the package that offers the class, not the file that defines it. If the file is split
    or renamed, the config.yaml of an old run still names the same class.
    """
    parts = cls.__module__.split(".")
    for end in range(1, len(parts)):
        place = ".".join(parts[:end])
        if getattr(sys.modules.get(place), cls.__qualname__, None) is cls:
            return f"{place}.{cls.__qualname__}"
    return f"{cls.__module__}.{cls.__qualname__}"


@cache
def _defaults(cls: type) -> dict[str, Any]:
    # This parser is new, so no earlier parse has changed its defaults.
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, fail_untyped=False)
    required = {action.dest for action in parser._actions if action.required}
    found = _plain(parser.get_defaults())
    return {key: value for key, value in found.items() if key not in required}


def defaults(cls: type) -> dict[str, Any]:
    """Returns the default values of the optional arguments of a class."""
    return copy.deepcopy(_defaults(cls))


def _plain(value: Any) -> Any:
    """Returns defaults in the form in which a YAML file would give them."""
    if isinstance(value, Namespace | Mapping):
        content = vars(value) if isinstance(value, Namespace) else value
        if "__subclasses_disabled__" in content:  # a group of settings, which names no class
            return _plain(content["init_args"])
        return {key: _plain(inner) for key, inner in content.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _merged(old: Any, new: Any) -> Any:
    """Merges new values into old ones. If the new value names a class, nothing old stays."""
    if not isinstance(old, dict) or not isinstance(new, dict) or "class_path" in new:
        return new
    return old | {key: _merged(old.get(key), value) for key, value in new.items()}
