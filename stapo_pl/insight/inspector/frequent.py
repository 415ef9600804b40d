"""The most frequent rare tokens, by the kind of their text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

KINDS = ("words", "digits", "operators", "LaTeX", "others")
_MOST = 12
# The first that fits decides. LaTeX comes first, as its commands contain letters, and its brackets
# and its ^ are no operators.
_PATTERNS = {
    "LaTeX": r"\\\W*\w*|\$+|[{}^_&]+|.*\\[A-Za-z]+.*|(frac|boxed|cdot|sqrt)\{?",
    "digits": r"[\d.,]*\d[\d.,]*",
    "operators": r"[-+*/=<>≤≥≠÷·±∓%!|~√∑∏∫∈≈→⇒\u00d7]+",  # U+00D7 is the sign of multiplication
    "words": r"[^\W\d_]+(['\u2019-][^\W\d_]+)*",  # U+2019 is the apostrophe
}


def kind_of(text: str) -> str:
    """Returns the kind of a token's text. Spaces around it do not count."""
    stripped = text.strip()
    for kind, pattern in _PATTERNS.items():
        if re.fullmatch(pattern, stripped):
            return kind
    return "others"


def most_frequent(texts: Iterable[str]) -> dict[str, list[tuple[str, int]]]:
    """Returns the most frequent texts of each kind, with how often each of them comes."""
    counts = {kind: Counter[str]() for kind in KINDS}
    for text in texts:
        counts[kind_of(text)][text] += 1
    return {kind: counter.most_common(_MOST) for kind, counter in counts.items()}
