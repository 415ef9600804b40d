r"""The last `\boxed{...}` of a response."""

from __future__ import annotations

import re

_OPENING = r"\boxed{"
# What can open or close a group; an escaped brace is text, and so is an escaped backslash.
_TOKEN = re.compile(r"\\.|[{}]", re.DOTALL)


def last_boxed(text: str) -> str | None:
    r"""Content of the last complete `\boxed{...}`, nested braces included; None if there is none.

    Example:
        >>> last_boxed(r"so \boxed{1}, no: \boxed{\frac{1}{2}}.")
        '\\frac{1}{2}'
    """
    first = text.find(_OPENING)
    if first < 0:
        return None
    last: tuple[int, int] | None = None
    # Of each open brace: where its content starts, if it is a box's. One pass over any text.
    open_braces: list[int | None] = []
    for token in _TOKEN.finditer(text, first):
        if token[0] == "{":
            is_box = text.endswith(_OPENING, 0, token.end())
            open_braces.append(token.end() if is_box else None)
        elif token[0] == "}" and open_braces:
            start = open_braces.pop()
            if start is not None and (last is None or start > last[0]):
                last = (start, token.start())
    return None if last is None else text[slice(*last)]
