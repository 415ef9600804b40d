r"""Rewrites notation that math-verify does not read into notation that it reads."""

from __future__ import annotations

import re
from fractions import Fraction

from stapo_pl.rewards.answers.typography import characters, plain

_POWERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_WORD = r"\\(?:text|mathrm|mbox)\{\s*"
# All repetitions are bounded, so that no text takes long.
_SPACED = re.compile(r"(?<![0-9.])[0-9]{1,3}(?:\\[,!:;]\s*[0-9]{3})+(?![0-9])")
_DOTTED = re.compile(r"\\dot\{([0-9])\}([0-9]{0,48})\\dot\{([0-9])\}")
_REPEATING = re.compile(
    r"([0-9]{0,50})\.([0-9]{0,50})\\(?:overline|bar|dot)\s*(?:\{([0-9]{1,50})\}|([0-9]))"
)
_POINT = re.compile(r"(?<=[0-9)\]}])\.(?![0-9.])")
_RELATION = re.compile(r"\s*(?:=|\\approx|≈)\s*")
_SYMBOL = re.compile(r"([A-Za-z]?)\s*" + _WORD + r"([eixyz])\s*\}")
_MIXED = re.compile(
    r"(?<![A-Za-z0-9.,/^_}\\])([0-9]{1,20})(?:\s|~|\\[,;: ]){1,9}([0-9]{1,20})"
    r"\s?/\s?([1-9][0-9]{0,19})(?![0-9./^_])"
)
# After a whole number other than 1, `e` with a sign and one digit may mean Euler's number.
_SCIENTIFIC = re.compile(
    r"(?<![A-Za-z0-9.}\\])(?:(1|[0-9]{0,50}\.[0-9]{1,50}|[0-9]{1,50}\.)[eE]([+-]?[0-9]{1,3})"
    r"|([0-9]{1,50})[eE]([+-][0-9]{2,3}|[0-9]{1,3}))(?![A-Za-z0-9._^{])"
)
_SUBSCRIPT = re.compile(
    r"_\s?\{\s{0,9}\\(?:(max|min|sup|inf|lim|arg|tot)|(?:text|mathrm|mbox|operatorname)\s?"
    r"\{\s{0,9}([A-Za-z0-9]{1,20})\s{0,9}\})\s{0,9}\}"
)
# math-verify takes these letters at the end of an answer for units, and drops them.
_NO_UNIT = re.compile(r"(?<=[0-9])\s{0,9}(ab|bc|by|[cdlot])$")
_POWER = re.compile(_WORD + rf"({'|'.join(_POWERS)})\b([^{{}}]*)\}}")


def rewrite(answer: str) -> str:
    r"""The answer in notation that math-verify reads.

    Blanks, an equality sign before the answer and a full stop after it are removed, and thin
    spaces between thousands too. Repeating decimals become fractions, letters such as `\mathrm{e}`
    become symbols, and words such as `\text{million}` become powers of ten.

    Example:
        >>> rewrite(r"= 0.1\overline{6}."), rewrite(r"3\,159"), rewrite(r"5\text{ million}")
        ('\\frac{1}{6}', '3159', '5 \\cdot 10^{6}\\text{}')
    """
    answer = plain(characters(answer))
    answer = answer[relation.end() :] if (relation := _RELATION.match(answer)) else answer
    answer = _SPACED.sub(lambda match: re.sub(r"[^0-9]", "", match[0]), answer)
    answer = _DOTTED.sub(r"\\overline{\1\2\3}", answer)
    answer = _REPEATING.sub(_fraction, answer)
    # math-verify reads "204." and "-1./3" as words. The point of "\right." is kept.
    answer = _POINT.sub("", answer)
    answer = answer.replace(r"\varnothing", r"\emptyset")
    answer = _MIXED.sub(_improper, answer)
    answer = _SCIENTIFIC.sub(lambda m: rf"{m[1] or m[3]} \cdot 10^{{{int(m[2] or m[4])}}}", answer)
    answer = _SUBSCRIPT.sub(lambda m: f"_{{{m[1] or m[2]}}}", answer)
    # The braces keep the letter apart from a command before it.
    answer = _SYMBOL.sub(lambda m: f"{m[1]}{{{m[2]}}}" if m[1] else m[2], answer)
    answer = _NO_UNIT.sub(r"{\1}", answer)
    return _POWER.sub(lambda m: rf" \cdot 10^{{{_POWERS[m[1]]}}}\text{{{m[2]}}}", answer).strip()


def _fraction(match: re.Match[str]) -> str:
    r"""The fraction for `a.b\overline{c}`, which is (abc - ab) / (10^|b| (10^|c| - 1))."""
    whole, fixed, period = match[1], match[2], match[3] or match[4]
    once, twice = int(f"0{whole}{fixed}"), int(f"0{whole}{fixed}{period}")
    value = Fraction(twice - once, 10 ** len(fixed) * (10 ** len(period) - 1))
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def _improper(match: re.Match[str]) -> str:
    """The fraction for a mixed number: `1 1/4` is 5/4."""
    whole, numerator, denominator = map(int, match.groups())
    return rf"\frac{{{whole * denominator + numerator}}}{{{denominator}}}"
