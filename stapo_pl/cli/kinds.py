"""What the values of a setting may be, in words."""

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

# More classes than these are not listed.
MANY = 12
_NULL = "null"
_PLAIN = {
    int: "a whole number", float: "a number", bool: "true or false", str: "text",
    types.NoneType: _NULL, dict: "a mapping", list: "a list", Any: "anything",
}  # fmt: skip
# Classes of values that are no settings. No text makes a tensor.
_TEXTS = {*_PLAIN, Path, timedelta, torch.Tensor}


def members(kind: Any) -> list[Any]:
    """The types of a union; any other type alone."""
    if get_origin(kind) in (Union, types.UnionType):
        return [member for inner in get_args(kind) for member in members(inner)]
    return [kind]


def classes(kind: Any) -> list[type]:
    """The classes whose settings a value may hold; of a function, those that it makes."""
    found = []
    for member in members(kind):
        if get_origin(member) is Callable:
            found += classes(get_args(member)[1])
        elif inspect.isclass(member) and get_origin(member) is None and member not in _TEXTS:
            found.append(member)
    return found


@cache
def choices(kind: Any) -> dict[str, type]:
    """The classes that can be named for a value, by name; none where there is only one."""
    found: dict[str, type] = {}
    waiting = [cls for cls in classes(kind) if not is_settings(cls)]
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        if not inspect.isabstract(cls) and not cls.__name__.startswith("_"):
            found.setdefault(cls.__name__, cls)
    return found


def is_settings(cls: type) -> bool:
    """Whether a class is a bundle of settings, which has no other in its place."""
    return is_dataclass(cls) and not cls.__subclasses__() and cls.__bases__ == (object,)


@cache
def settings(cls: type) -> ArgumentParser:
    """Of a class, the parser of its arguments."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, fail_untyped=False)
    return parser


def arguments(cls: type) -> list[str]:
    """Names of a class' arguments."""
    return [a.dest for a in settings(cls)._actions if not a.dest.endswith("help")]


def required(kind: Any, cls: type) -> list[str]:
    """Names of the arguments that a class has to be given."""
    if any(get_origin(member) is Callable for member in members(kind)):
        return []  # a function that makes one gives them
    return [action.dest for action in settings(cls)._actions if action.required]


def find_class(kind: Any, name: str) -> type | None:
    """The class of a name or import path; None if there is none that fits."""
    return choices(kind).get(name) or (None if why_not(kind, name) else _imported(name))


def why_not(kind: Any, path: str) -> str | None:
    """Why an import path names nothing that fits; None if it does."""
    try:
        found = _imported(path)
    except Exception as error:  # the user's own module, in which anything may be wrong
        return f"cannot be imported: {type(error).__name__}: {error}"
    kinds = tuple(classes(kind))
    # A function may make one: what it says it returns is for the parser.
    if inspect.isclass(found) and not issubclass(found, kinds):
        return f"is no {' or '.join(cls.__name__ for cls in kinds)}"
    return None if callable(found) else "is no class"


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def accepts(kind: Any, text: str) -> bool:
    """Whether a word's value is one of a type that holds no class."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--it", type=kind)
    try:
        value = parser.parse_args([f"--it={text}"]).it
    except (ArgumentError, SystemExit):
        return False
    if value is None:
        return types.NoneType in members(kind)
    return value == value  # NaN is no setting


def accepts_plainly(kind: Any, text: str) -> bool:
    """Whether a value that names no class is one of a type that may also hold classes.

    Lists and mappings of classes are left to the parser.
    """
    value = yaml.safe_load(text)
    lists = [m for m in members(kind) if get_origin(m) in (list, Iterable)]
    if value is None or isinstance(value, list):
        return types.NoneType in members(kind) if value is None else bool(lists)
    plain = [member for member in members(kind) if member in _PLAIN]
    return bool(plain) and accepts(Union[tuple(plain)], text)  # noqa: UP007


def items(kind: Any) -> Any:
    """The type of the values of a mapping, whose keys are any names; None for all others."""
    found = [get_args(m)[1] for m in members(kind) if get_origin(m) in (dict, Mapping)]
    return found[0] if found else None


def literals(kind: Any) -> list[str]:
    """The words that a type takes."""
    values = [v for m in members(kind) if get_origin(m) is Literal for v in get_args(m)]
    return list(dict.fromkeys(map(str, values)))


def describe(kind: Any) -> str:
    """`a whole number or null` for `int | None`."""
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
