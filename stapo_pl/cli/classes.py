"""A class that is named comes with all of its defaults.

jsonargparse merges a value into the one before it: where another class is named, arguments of the
same name keep the values that the class before had. It also keeps the defaults of a class in one
object, which a later parse finds changed. A value that names every argument is exposed to neither.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from stapo_pl.cli.kinds import accepts_plainly, classes, find_class, is_settings, items, settings


def complete(kind: Any, value: Any) -> Any:
    """A value for a setting, in which each class that it names has all of its arguments.

    Args:
        kind: the type of the setting.
        value: what it is set to. A bundle of settings without a class may be given in part.
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
    whole = {"class_path": f"{cls.__module__}.{cls.__qualname__}"}
    return value | whole | {"init_args": _merged(defaults(cls), given)}


def complete_inside(parser: ArgumentParser, value: dict[str, Any], place: str = "") -> Any:
    """Values for the settings of a parser, as `complete` makes them."""
    kinds = {action.dest: getattr(action, "_typehint", None) for action in parser._actions}
    found = {}
    for key, inner in value.items():
        at = place + key
        if kinds.get(at) is None and isinstance(inner, dict):
            found[key] = complete_inside(parser, inner, f"{at}.")
        else:
            found[key] = complete(kinds.get(at), inner)
    return found


@cache
def _defaults(cls: type) -> dict[str, Any]:
    # A parser of its own, which no parse can have changed.
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, fail_untyped=False)
    required = {action.dest for action in parser._actions if action.required}
    found = _plain(parser.get_defaults())
    return {key: value for key, value in found.items() if key not in required}


def defaults(cls: type) -> dict[str, Any]:
    """What the arguments of a class are if they are not given, of its optional ones."""
    return copy.deepcopy(_defaults(cls))


def _plain(value: Any) -> Any:
    """Defaults as a YAML would have them."""
    if isinstance(value, Namespace | Mapping):
        content = vars(value) if isinstance(value, Namespace) else value
        if "__subclasses_disabled__" in content:  # a bundle of settings, which names no class
            return _plain(content["init_args"])
        return {key: _plain(inner) for key, inner in content.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _merged(old: Any, new: Any) -> Any:
    """New values into old ones; a class that is named takes nothing from the one before it."""
    if not isinstance(old, dict) or not isinstance(new, dict) or "class_path" in new:
        return new
    return old | {key: _merged(old.get(key), value) for key, value in new.items()}
