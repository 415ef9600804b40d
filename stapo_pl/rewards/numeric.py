r"""Numbers such as `0.25`, `1.5e-9`, `1.5 \times 10^{-9} \mathrm{~m}` and `2516_8`."""

from __future__ import annotations

import re
from decimal import Decimal

# Of math-verify's: six decimals. Here they are also six digits of what is smaller than 1.
_TOLERANCE = Decimal("1e-6")

# Exponents of more digits name no quantity. No part can match in two ways: linear.
_NUMBER = re.compile(
    r"[$\s]*(?P<digits>[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))"
    r"(?:[eE](?P<e>[-+]?[0-9]{1,3})"
    r"|\s*\\(?:times|cdot)\s*10\^(?:(?P<digit>[0-9])|\{(?P<braced>[-+]?[0-9]{1,3})\}))?"
    r"(?:[$\s~]|\\[,;: ])*"
    r"(?:/?[\s~]*\\(?:text|mathrm|mbox)\{[^{}0-9]*\}(?:\^(?:[0-9]|\{-?[0-9]\}))?[$\s~]*)*",
)

_BASED = re.compile(r"\s*\(?(?P<digits>[0-9][0-9A-Fa-f]*)\)?\s*(?:_\{?(?P<base>[0-9]+)\}?)?\s*")


def read_number(text: str) -> Decimal | None:
    r"""A number in decimal or scientific notation, with or without a unit; None for other text.

    Example:
        >>> read_number(r"2.5 \times 10^{-3} \mathrm{~m} / \mathrm{s}^2")
        Decimal('0.0025')
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    exponent = match["e"] or match["digit"] or match["braced"] or "0"
    return Decimal(f"{match['digits']}e{exponent}")


def same_number(a: Decimal, b: Decimal) -> bool:
    """Whether two numbers differ by no more than rounding.

    Example:
        >>> same_number(Decimal("0.3333333"), Decimal("0.33333333"))
        True
        >>> same_number(Decimal("0.0000672"), Decimal("0.0000673"))
        False
    """
    return abs(a - b) <= _TOLERANCE * min(Decimal(1), abs(b))


def read_based(text: str) -> tuple[str, str | None] | None:
    """Digits, and the base that is written below them, if one is; None for other text.

    Example:
        >>> read_based("2516_{8}"), read_based("2516"), read_based("x+1")
        (('2516', '8'), ('2516', None), None)
    """
    match = _BASED.fullmatch(text)
    return match and (match["digits"], match["base"])
