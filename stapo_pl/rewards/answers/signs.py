r"""Answers with a plus-minus sign, each of which stands for two answers."""

from __future__ import annotations

import re
from functools import partial

from stapo_pl.rewards.answers.lists import split

# A text with more such signs is not taken for an answer: it would take time.
_MOST = 8
_SIGN = re.compile(r"\\(pm|mp)(?![A-Za-z])")


def both_signs(text: str) -> str:
    r"""The answer as a list in which each part with a plus-minus occurs twice, once for each sign.

    Example:
        >>> both_signs(r"1, \frac{-1 \pm x}{2}")
        '1, \\frac{-1 + x}{2}, \\frac{-1 - x}{2}'
    """
    if not 1 <= len(_SIGN.findall(text)) <= _MOST:
        return text
    parts: list[str] = []
    for part in split(text).texts:
        signs = ("+-", "-+") if _SIGN.search(part) else ("+-",)
        parts += [_SIGN.sub(partial(_one_sign, pm_mp), part) for pm_mp in signs]
    return ", ".join(parts)


def _one_sign(pm_mp: str, match: re.Match[str]) -> str:
    """The first of two signs for a plus-minus, and the second for a minus-plus."""
    return pm_mp[match[1] == "mp"]
