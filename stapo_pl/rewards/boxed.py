r"""The last `\boxed{...}` of a response."""

from __future__ import annotations


def last_boxed(text: str) -> str | None:
    r"""Content of the last complete `\boxed{...}`, nested braces included; None if there is none.

    Example:
        >>> last_boxed(r"so \boxed{1}, no: \boxed{\frac{1}{2}}.")
        '\\frac{1}{2}'
    """
    opening = r"\boxed{"
    start = text.rfind(opening)
    while start != -1:
        depth = 1
        for end in range(start + len(opening), len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                return text[start + len(opening) : end]
        start = text.rfind(opening, 0, start)
    return None
