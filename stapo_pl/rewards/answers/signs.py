r"""Plus-minus: one answer that is two."""

from __future__ import annotations

import re

from stapo_pl.rewards.answers.lists import split

# More are no answer, and would take time.
_MOST = 8
_SIGN = re.compile(r"\\(pm|mp)(?![A-Za-z])")


def both_signs(text: str) -> str:
    r"""The answer as a list, with each part that has a plus-minus once for each sign.

    Example:
        >>> both_signs(r"1, \frac{-1 \pm x}{2}")
        '1, \\frac{-1 + x}{2}, \\frac{-1 - x}{2}'
    """
    if not 1 <= len(_SIGN.findall(text)) <= _MOST:
        return text
    parts = []
    for part in split(text).texts:
        signs = ("+-", "-+") if _SIGN.search(part) else ("+-",)
        parts += [_SIGN.sub(lambda m, s=s: s[m[1] == "mp"], part) for s in signs]
    return ", ".join(parts)
