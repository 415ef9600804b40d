r"""Letters that form a name, such as a word or the corners of a triangle, and are no product."""

from __future__ import annotations

import re

_QUOTED = re.compile(r"\\(?:text|mathrm|mbox|textrm|operatorname)\s{0,9}\{([A-Za-z\s]{0,50})\}")
_KIND = re.compile(r"\\(?:angle|measuredangle|triangle)(?![A-Za-z])\s*")
_BETWEEN = re.compile(r"(?:^|(?<=[A-Z]))(?:\s|~|\\[,;:! ])+(?=[A-Z])")
_NAMES = re.compile(r"[A-Z]{2,50}(?:[=,][A-Z]{2,50})*")
_LETTERS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,50}(?![A-Za-z])")


def with_names(given: str, answer: str) -> tuple[str, str]:
    r"""Both answers, with letters turned into words if the problem's answer consists of names.

    A name is three or more capital letters, or text that is marked as a word. Two capital letters
    beside an equality sign are a name if the answer has another name. Otherwise two letters are a
    product or a segment, whose order does not matter, and so are small letters. An angle may be
    named from either side.

    Example:
        >>> with_names("ACT", "CAT")
        ('\\text{ACT}', '\\text{CAT}')
        >>> with_names("yx", "xy"), with_names(r"\angle CBA", r"\angle ABC")
        (('yx', 'xy'), ('\\text{ABC}', '\\text{ABC}'))
    """
    gold = _letters(answer)
    is_word = _QUOTED.fullmatch(answer) and re.fullmatch("[A-Za-z]{2,50}", gold)
    is_name = _NAMES.fullmatch(gold) and re.search("[A-Z]{3}", gold)
    if not (is_word or is_name):
        return given, answer
    is_angle = "angle" in answer and "triangle" not in answer

    def word(match: re.Match[str]) -> str:
        letters = min(match[0], match[0][::-1]) if is_angle else match[0]
        return rf"\text{{{letters}}}"

    return _LETTERS.sub(word, _letters(given)), _LETTERS.sub(word, gold)


def _letters(text: str) -> str:
    text = _KIND.sub("", _QUOTED.sub(r"\1", text)).strip()
    return _BETWEEN.sub("", re.sub(r"\s*([=,])\s*", r"\1", text))
