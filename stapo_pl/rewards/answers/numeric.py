r"""Reads numbers such as `0.25`, `1.5e-9`, `1.5 \times 10^{-9} \mathrm{~m}` and `2516_8`."""

from __future__ import annotations

import re
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext

# A decimal is taken for a rounding if it has at least this many significant digits. With fewer, too
# many numbers would round to it. Zeros at the end do not count.
_SIGNIFICANT = 6
# Computations keep this many digits, more than any number in an answer has.
_DIGITS = 4000

# No quantity needs an exponent of more digits. No part of the pattern can match in two ways, so its
# time is linear.
_NUMBER = re.compile(
    r"[$\s]*(?P<digits>[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))"
    r"(?:[eE](?P<e>[-+]?[0-9]{1,3})"
    r"|\s*\\(?:times|cdot)\s*10\^(?:(?P<digit>[0-9])|\{(?P<braced>[-+]?[0-9]{1,3})\}))?"
    r"(?:[$\s~]|\\[,;: ])*"
    r"(?:/?[\s~]*\\(?:text|mathrm|mbox)\{[^{}0-9]*\}(?:\^(?:[0-9]|\{-?[0-9]\}))?[$\s~]*)*",
)

_BASED = re.compile(r"\s*\(?(?P<digits>[0-9][0-9A-Fa-f]*)\)?\s*(?:_\{?(?P<base>[0-9]+)\}?)?\s*")


def read_number(text: str) -> Decimal | None:
    r"""A number in decimal or scientific notation, maybe with a unit; None for other text.

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
    """Whether a decimal is a value that was rounded or cut off at the decimal's last place.

    The decimal needs at least six significant digits. So 0.333 is no rounding of 1/3, and 1.0 is
    no rounding of a number close to 1.

    Example:
        >>> is_rounding(Decimal("0.666667"), Decimal(2) / Decimal(3))
        True
        >>> is_rounding(Decimal("0.000002"), Decimal(1) / Decimal(524288))
        False
    """
    with localcontext(prec=_DIGITS):
        exponent = written.as_tuple().exponent
        if not isinstance(exponent, int) or exponent >= 0:  # a whole number, or no finite one
            return False
        if len(written.normalize().as_tuple().digits) < _SIGNIFICANT:
            return False
        place = Decimal(1).scaleb(exponent)
        roundings = (ROUND_HALF_UP, ROUND_HALF_EVEN, ROUND_DOWN)
        return any(value.quantize(place, rounding) == written for rounding in roundings)


def read_based(text: str) -> tuple[str, str | None] | None:
    """Digits, and the base that is written below them or None; None if the text is no number.

    Example:
        >>> read_based("2516_{8}"), read_based("2516"), read_based("x+1")
        (('2516', '8'), ('2516', None), None)
    """
    match = _BASED.fullmatch(text)
    return match and (match["digits"], match["base"])
