r"""The last `\boxed{...}` of a response."""

from __future__ import annotations


def last_boxed(text: str) -> str | None:
    r"""Content of the last complete `\boxed{...}`, nested braces included; None if there is none.

    Example:
        >>> last_boxed(r"so \boxed{1}, no: \boxed{\frac{1}{2}}.")
        '\\frac{1}{2}'
    """
    opening = r"\boxed{"
    last: tuple[int, int] | None = None
    # Of each open brace: where its content starts, if it is a box's. One pass over any text.
    open_braces: list[int | None] = []
    for place, character in enumerate(text):
        if character == "{":
            is_box = text.startswith(opening, place + 1 - len(opening))
            open_braces.append(place + 1 if is_box else None)
        elif character == "}" and open_braces:
            start = open_braces.pop()
            if start is not None and (last is None or start > last[0]):
                last = (start, place)
    return None if last is None else text[slice(*last)]
