r"""The last `\boxed{...}` of a response."""

from __future__ import annotations

import re

# A box opens a group, or holds what stands right after it: a command with its groups, or what has
# no blank. Else there is what can open or close a group; an escaped brace is text, and so is an
# escaped backslash. No part can match in two ways: linear.
_BOX = r"\\{1,2}(?:boxed|fbox|framebox)(?![A-Za-z])\s{0,9}"
_GROUPS = r"(?:\{[^{}]{0,200}\}){0,3}"
_FIRST = re.compile(_BOX)
_TOKEN = re.compile(
    rf"[{{}}]|(?P<box>{_BOX}\{{)|{_BOX}(?P<bare>-?\\[A-Za-z]{{1,20}}{_GROUPS}"
    r"|\\\{[^{}\\]{0,200}\\\}|(?:[-+(\[0-9.]|[A-Za-z](?![A-Za-z]))[^\s{}\\$]{0,200})"
    r"|\\.",
    re.DOTALL,
)


def last_boxed(text: str) -> str | None:
    r"""Content of the last complete `\boxed{...}`, nested braces included; None if there is none.

    Example:
        >>> last_boxed(r"so \boxed{1}, no: \boxed{\frac{1}{2}}.")
        '\\frac{1}{2}'
    """
    last: tuple[int, int] | None = None
    # Of each open brace: where its content starts, if it is a box's. One pass over any text.
    open_braces: list[int | None] = []
    first = _FIRST.search(text)
    for token in _TOKEN.finditer(text, first.start()) if first else ():
        if token["bare"] is not None:
            last = max(last or token.span("bare"), token.span("bare"))
        elif token[0].endswith("{") and token[0] != r"\{":
            open_braces.append(token.end() if token["box"] else None)
        elif token[0] == "}" and open_braces:
            start = open_braces.pop()
            if start is not None and (last is None or start > last[0]):
                last = (start, token.start())
    return None if last is None else text[slice(*last)]
