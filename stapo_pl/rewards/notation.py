r"""Notation that math-verify does not read, in one that it does."""

from __future__ import annotations

import re
from fractions import Fraction

_POWERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_WORD = r"\\(?:text|mathrm|mbox)\{\s*"
# All are bounded, so that no text takes long.
_SPACED = re.compile(r"(?<![0-9.])[0-9]{1,3}(?:\\[,!:;]\s*[0-9]{3})+(?![0-9])")
_DOTTED = re.compile(r"\\dot\{([0-9])\}([0-9]{0,48})\\dot\{([0-9])\}")
_REPEATING = re.compile(
    r"([0-9]{0,50})\.([0-9]{0,50})\\(?:overline|bar|dot)\s*(?:\{([0-9]{1,50})\}|([0-9]))"
)
_POINT = re.compile(r"(?<=[0-9)\]}])\.(?![0-9.])")
_RELATION = re.compile(r"\s*(?:=|\\approx|≈)\s*")
_SYMBOL = re.compile(r"([A-Za-z]?)\s*" + _WORD + r"([eixyz])\s*\}")
_POWER = re.compile(_WORD + rf"({'|'.join(_POWERS)})\b([^{{}}]*)\}}")


def rewrite(answer: str) -> str:
    r"""The answer, written as math-verify reads it.

    Without what may stand before and after an answer: blanks, an equality sign, a full stop. With
    repeating decimals as fractions, without thin spaces between thousands, with `\mathrm{e}` and
    the like as symbols, with `\text{million}` and the like as powers of ten.

    Example:
        >>> rewrite(r"= 0.1\overline{6}."), rewrite(r"3\,159"), rewrite(r"5\text{ million}")
        ('\\frac{1}{6}', '3159', '5 \\cdot 10^{6}\\text{}')
    """
    answer = answer.strip()
    answer = answer[relation.end() :] if (relation := _RELATION.match(answer)) else answer
    answer = _SPACED.sub(lambda match: re.sub(r"[^0-9]", "", match[0]), answer)
    answer = _DOTTED.sub(r"\\overline{\1\2\3}", answer)
    answer = _REPEATING.sub(_fraction, answer)
    # To math-verify, "204." and "-1./3" are words. The point of "\right." stays.
    answer = _POINT.sub("", answer)
    answer = answer.replace("°", r"^\circ")
    # Braces keep it from becoming part of a command.
    answer = _SYMBOL.sub(lambda m: f"{m[1]}{{{m[2]}}}" if m[1] else m[2], answer)
    return _POWER.sub(lambda m: rf" \cdot 10^{{{_POWERS[m[1]]}}}\text{{{m[2]}}}", answer).strip()


def _fraction(match: re.Match[str]) -> str:
    r"""Of `a.b\overline{c}`, which is (abc - ab) / (10^|b| (10^|c| - 1))."""
    whole, fixed, period = match[1], match[2], match[3] or match[4]
    once, twice = int(f"0{whole}{fixed}"), int(f"0{whole}{fixed}{period}")
    value = Fraction(twice - once, 10 ** len(fixed) * (10 ** len(period) - 1))
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
