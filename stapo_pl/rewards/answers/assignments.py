r"""Values with names, such as `x=1, y=2` and `(x,y)=(1,2)`."""

from __future__ import annotations

import re

from stapo_pl.rewards.answers.lists import coordinates, split

_NAME = r"\\?[A-Za-z]{1,10}(?:_(?:[A-Za-z0-9]|\{[A-Za-z0-9]{1,10}\}))?'{0,3}"
_ASSIGNMENT = re.compile(rf"({_NAME})\s*=\s*([^=]+)")
_TUPLES = re.compile(r"([^=]+)=([^=]+)")


def pairs(given: str, answer: str) -> list[tuple[str, str]] | None:
    """Pairs of values that must be equal for the two answers to be equal.

    Values with the same name belong together. If only one answer has names, the other may be a
    tuple or a list, whose values are then in the alphabetical order of the names. But if the
    problem's answer is a list without names, order does not count, and there are no pairs.

    Returns:
        None if there are no names that say which values belong together; an empty list if the
        answers differ in their names or in the number of their values.

    Example:
        >>> pairs("y=2, x=1", "x=1, y=2"), pairs("(2,1)", "x=1, y=2"), pairs("1, 2", "2, 1")
        ([('1', '1'), ('2', '2')], [('2', '1'), ('1', '2')], None)
    """
    named, gold = _read(given), _read(answer)
    if named is not None and gold is not None:
        return [(named[name], gold[name]) for name in gold] if named.keys() == gold.keys() else []
    if gold is not None:
        values, names = coordinates(given) or split(given).texts, gold
    elif named is not None and (in_order := coordinates(answer)) is not None:
        values, names = in_order, named
    else:
        return None
    if len(values) != len(names):
        return []
    ordered = [names[name] for name in sorted(names, key=lambda name: name.lstrip("\\"))]
    both = zip(values, ordered, strict=True)
    return list(both) if gold is not None else [(value, other) for other, value in both]


def _read(text: str) -> dict[str, str] | None:
    """The values by their names. None unless each has a name and all names differ."""
    tuples = _TUPLES.fullmatch(text)
    if tuples and (names := coordinates(tuples[1].strip())):
        values = coordinates(tuples[2].strip()) or []
        parts = [f"{name}={value}" for name, value in zip(names, values, strict=False)]
        parts = parts if len(names) == len(values) else []
    else:
        parts = split(text).texts
    found = [match for part in parts if (match := _ASSIGNMENT.fullmatch(part))]
    if len(found) < 2 or len(found) < len(parts):
        return None
    named = {re.sub(r"[{}]", "", match[1]): match[2] for match in found}
    return named if len(named) == len(found) else None
