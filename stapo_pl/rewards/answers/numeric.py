r"""Numbers such as `0.25`, `1.5e-9`, `1.5 \times 10^{-9} \mathrm{~m}` and `2516_8`."""

from __future__ import annotations

import re
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext

# A rounding has so many significant digits: fewer may round anything. Zeros at the end are none,
# as they say that there is nothing to round.
_SIGNIFICANT = 6
# More than any number of an answer has, its exponent included.
_DIGITS = 4000

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
    """Whether two numbers are equal, or one is a rounding of the other.

    Example:
        >>> same_number(Decimal("0.3333333"), Decimal("0.33333333"))
        True
        >>> same_number(Decimal("0.0000672"), Decimal("0.00006724"))
        False
    """
    return a == b or is_rounding(a, b) or is_rounding(b, a)


def is_rounding(written: Decimal, value: Decimal) -> bool:
    """Whether a decimal is a value at the precision that is written: rounded or cut off at its
    last decimal, and of at least six significant digits. All else has to be exact: 0.333 is not
    1/3, and neither is 0.0 or 1.0 what is almost that.

    Example:
        >>> is_rounding(Decimal("0.666667"), Decimal(2) / Decimal(3))
        True
        >>> is_rounding(Decimal("0.000002"), Decimal(1) / Decimal(524288))
        False
    """
    with localcontext(prec=_DIGITS):
        exponent = written.as_tuple().exponent
        if exponent >= 0 or len(written.normalize().as_tuple().digits) < _SIGNIFICANT:
            return False
        place = Decimal(1).scaleb(exponent)
        roundings = (ROUND_HALF_UP, ROUND_HALF_EVEN, ROUND_DOWN)
        return any(value.quantize(place, rounding) == written for rounding in roundings)


def read_based(text: str) -> tuple[str, str | None] | None:
    """Digits, and the base that is written below them, if one is; None for other text.

    Example:
        >>> read_based("2516_{8}"), read_based("2516"), read_based("x+1")
        (('2516', '8'), ('2516', None), None)
    """
    match = _BASED.fullmatch(text)
    return match and (match["digits"], match["base"])
