"""Says which values a setting accepts. The type of a setting is called its kind here.

A bundle is a dataclass of settings that no other class can replace, such as `Run`.
"""

from __future__ import annotations

import importlib
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser

# A message lists at most so many classes.
MANY = 12
_NULL = "null"
_PLAIN = {
    int: "a whole number", float: "a number", bool: "true or false", str: "text",
    types.NoneType: _NULL, dict: "a mapping", list: "a list", Any: "anything",
}  # fmt: skip
# These classes are values and have no settings. (A tensor cannot be given as text.)
_TEXTS = {*_PLAIN, Path, timedelta, torch.Tensor}


def members(kind: Any) -> list[Any]:
    """Returns the types of a union. For any other type, it returns that type alone."""
    if get_origin(kind) in (Union, types.UnionType):
        return [member for inner in get_args(kind) for member in members(inner)]
    return [kind]


def classes(kind: Any) -> list[type]:
    """Returns the classes that a value may name. For a function, these are the classes it makes."""
    found = []
    for member in members(kind):
        if get_origin(member) is Callable:
            found += classes(get_args(member)[1])
        elif inspect.isclass(member) and get_origin(member) is None and member not in _TEXTS:
            found.append(member)
    return found


@cache
def choices(kind: Any) -> dict[str, type]:
    """Returns the classes that a value may name and their subclasses, by name.

    A bundle is left out, because nothing else can be chosen for it.
    """
    found: dict[str, type] = {}
    waiting = [cls for cls in classes(kind) if not is_settings(cls)]
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        if not inspect.isabstract(cls) and not cls.__name__.startswith("_"):
            found.setdefault(cls.__name__, cls)
    return found


def is_settings(cls: type) -> bool:
    """Returns whether a class is a bundle."""
    return is_dataclass(cls) and not cls.__subclasses__() and cls.__bases__ == (object,)


@cache
def settings(cls: type) -> ArgumentParser:
    """Returns the parser of the arguments of a class."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, fail_untyped=False)
    return parser


def arguments(cls: type) -> list[str]:
    """Returns the names of the arguments of a class."""
    return [a.dest for a in settings(cls)._actions if not a.dest.endswith("help")]


def required(kind: Any, cls: type) -> list[str]:
    """Returns the names of the arguments that must be given to a class."""
    if any(get_origin(member) is Callable for member in members(kind)):
        return []  # the setting is a function that makes an object later, with these arguments
    return [action.dest for action in settings(cls)._actions if action.required]


def find_class(kind: Any, name: str) -> type | None:
    """Returns the class of a name or import path, or None if no class fits."""
    return choices(kind).get(name) or (None if why_not(kind, name) else _imported(name))


def why_not(kind: Any, path: str) -> str | None:
    """Returns why an import path names no class that fits, or None if it names one."""
    try:
        found = _imported(path)
    except Exception as error:  # the module is the user's, so it may raise anything
        return f"cannot be imported: {type(error).__name__}: {error}"
    kinds = tuple(classes(kind))
    # A function that makes an object is fine too. The parser checks what it returns.
    if inspect.isclass(found) and not issubclass(found, kinds):
        return f"is no {' or '.join(cls.__name__ for cls in kinds)}"
    return None if callable(found) else "is no class"


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def accepts(kind: Any, text: str) -> bool:
    """Returns whether a text is a value of a type that names no class."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--it", type=kind)
    try:
        value = parser.parse_args([f"--it={text}"]).it
    except (ArgumentError, SystemExit):
        return False
    if value is None:
        return types.NoneType in members(kind)
    return value == value  # NaN is refused, and only NaN differs from itself


def accepts_plainly(kind: Any, text: str) -> bool:
    """Returns whether a text is a value that names no class, for a type that also allows classes.

    The parser checks lists and mappings of classes.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    lists = [m for m in members(kind) if get_origin(m) in (list, Iterable)]
    if value is None or isinstance(value, list):
        return types.NoneType in members(kind) if value is None else bool(lists)
    plain = [member for member in members(kind) if member in _PLAIN]
    return bool(plain) and accepts(Union[tuple(plain)], text)  # noqa: UP007


def items(kind: Any) -> Any:
    """Returns the type of the values of a mapping with free keys, or None for other types."""
    found = [get_args(m)[1] for m in members(kind) if get_origin(m) in (dict, Mapping)]
    return found[0] if found else None


def listed(kind: Any) -> Any:
    """Returns the type of the items of a list whose items may name classes, or None."""
    found = [get_args(m)[0] for m in members(kind) if get_origin(m) in (list, Iterable)]
    return found[0] if found and classes(found[0]) else None


def literals(kind: Any) -> list[str]:
    """Returns the texts that a type allows, if it allows only certain texts."""
    values = [v for m in members(kind) if get_origin(m) is Literal for v in get_args(m)]
    return list(dict.fromkeys(map(str, values)))


def describe(kind: Any) -> str:
    """Returns a type in words, such as `a whole number or null` for `int | None`."""
    kinds = [member for member in members(kind) if member is not torch.Tensor]
    if float in kinds:
        kinds = [member for member in kinds if member is not int]
    words = [f"one of {', '.join(literals(kind))}"] if literals(kind) else []
    for member in kinds:
        if get_origin(member) is not Literal and (word := _describe(member)) not in words:
            words.append(word)
    if _NULL in words:
        words.append(words.pop(words.index(_NULL)))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _describe(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if origin is tuple and inner[-1] is not ...:
        return f"a list of {' and '.join(describe(item) for item in inner)}"
    if origin is not None and issubclass(origin, Mapping):
        return "a mapping"
    if origin is not None and issubclass(origin, Iterable):
        return f"a list, each {describe(inner[0])}"
    if names := choices(kind):
        listed = f", one of {', '.join(sorted(names))}" if len(names) <= MANY else ""
        return f"a class{listed}"
    if any(is_settings(cls) for cls in classes(kind)):
        return f"a mapping with {', '.join(arguments(classes(kind)[0]))}"
    return f"a {getattr(kind, '__name__', kind)}"
