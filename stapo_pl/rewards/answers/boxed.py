r"""The last `\boxed{...}` of a response."""

from __future__ import annotations

import re

# A box has braces, or it holds what follows it directly: a command with its groups, or text up to
# the next blank. The other tokens are the braces that open and close groups; an escaped brace or
# backslash is text. No part of the pattern can match in two ways, so its time is linear.
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
    r"""The content of the last complete `\boxed{...}`, with nested braces; None if there is none.

    Example:
        >>> last_boxed(r"so \boxed{1}, no: \boxed{\frac{1}{2}}.")
        '\\frac{1}{2}'
    """
    last: tuple[int, int] | None = None
    # For each open brace, the place where its content starts, or None if it is not that of a box.
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
