r"""Splits lists such as `1, 2`, `x=1 \text{ and } y=2` and `x<1 \text{ or } x>2`."""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r"(?P<open>[(\[{])|(?P<close>[)\]}])"
    r"|(?P<comma>[,;])"
    r"|(?P<word>\\(?:text|mathrm|mbox|textrm)\s?\{\s{0,9},?\s{0,9}(?P<quoted>or|and)\s{0,9}\}"
    r"|(?<![A-Za-z\\])(?P<bare>or|and)(?![A-Za-z])"
    r"|\\(?P<sign>lor|vee|land|wedge)(?![A-Za-z]))"
)
_BRACKETS = re.compile(r"(?:\\left)?\s{0,9}\(|(?:\\right)?\s{0,9}\)")


class Parts(NamedTuple):
    """The parts of a list, and the separators between them: `,`, `or` or `and`."""

    texts: list[str]
    separators: list[str]


def split(text: str) -> Parts:
    r"""The parts of a list. Separators inside brackets do not count.

    Example:
        >>> split(r"(1,2), x<3 \text{ or } x>4")
        Parts(texts=['(1,2)', 'x<3', 'x>4'], separators=[',', 'or'])
    """
    texts: list[str] = []
    separators: list[str] = []
    depth = start = 0
    for token in _TOKEN.finditer(text):
        if token["open"]:
            depth += 1
        elif token["close"]:
            depth -= 1
        elif depth == 0:
            word = token["quoted"] or token["bare"] or token["sign"] or ","
            before = _stripped(text[start : token.start()])
            if not before and separators:  # as in ", and", which is one separator
                separators[-1] = word
            else:
                texts.append(before)
                separators.append(word)
            start = token.end()
    names = {"lor": "or", "vee": "or", "land": "and", "wedge": "and"}
    return Parts([*texts, _stripped(text[start:])], [names.get(s, s) for s in separators])


def coordinates(text: str) -> list[str] | None:
    r"""The parts of a tuple; None if the text is no tuple.

    Example:
        >>> coordinates(r"\left(1, \frac{1}{2}\right)"), coordinates("1, 2")
        (['1', '\\frac{1}{2}'], None)
    """
    opening = _BRACKETS.match(text)
    if opening is None or not text.endswith(")") or "(" not in opening[0]:
        return None
    inner = text[opening.end() : -1].removesuffix(r"\right")
    parts = split(inner).texts
    return parts if len(parts) > 1 and _is_balanced(inner) else None


def _is_balanced(text: str) -> bool:
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += bool(token["open"]) - bool(token["close"])
        if depth < 0:
            return False
    return depth == 0


def _stripped(text: str) -> str:
    return text.strip().strip("$").strip()
