"""Equality of what math-verify reads: exact, or at the precision that is written.

math-verify takes for equal what differs by less than six decimals, if one side is a decimal, and
by less than fifteen otherwise. So decimals are made exact before it compares, and what it calls
equal is computed once more, to as many digits as the numbers need.

Imports sympy, which is heavy: `math.py` imports it where it judges.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, Inexact, localcontext

from math_verify import verify
from sympy import (
    Abs,
    Basic,
    Expr,
    Float,
    I,
    Interval,
    MatrixBase,
    Rational,
    S,
    Symbol,
    Tuple,
    UnevaluatedExpr,
)
from sympy.core.relational import Relational

from stapo_pl.rewards.answers.numeric import is_rounding

# Digits beyond those of the numbers that an expression is made of; and the most that are computed.
_SPARE, _MOST = 40, 5000
# A fraction of more digits is no decimal that somebody wrote.
_WRITTEN = 50
# Sides of relations that differ by less were equal to math-verify by its tolerance.
_CLOSE = 1e-10
# What math-verify reads a percent sign as.
_PERCENT = UnevaluatedExpr(Rational(1, 100))

Expression = Basic | MatrixBase


def equal(gold: Expression | str, given: Expression | str) -> bool:
    """Whether a reading of the problem's answer and one of the response's mean the same.

    Both as `math_verify.parse` gives them: an expression, or text that it could not read.
    """
    if isinstance(gold, str) or isinstance(given, str):
        return verify(gold, given, timeout_seconds=None, raise_on_error=True)
    given = _exact(given, list(_numbers(gold)))
    gold = _exact(gold, list(_numbers(given)))
    return verify(gold, given, timeout_seconds=None, raise_on_error=True) and not _differ(
        gold, given
    )


def _numbers(expression: Expression) -> Iterator[Expr]:
    """The largest parts of an expression that have no variable."""
    if isinstance(expression, MatrixBase):
        for part in expression:
            yield from _numbers(part)
    elif isinstance(expression, Expr) and not expression.free_symbols:
        yield expression
    else:
        for part in expression.args:
            yield from _numbers(part)


def _exact(expression: Expression, others: list[Expr]) -> Expression:
    """The expression with fractions for decimals: each is what is written, or the one of `others`
    that it is a rounding of."""
    if not expression.has(Float):
        return expression
    if isinstance(expression, MatrixBase):
        return expression.applyfunc(lambda part: _exact(part, others))
    is_number = isinstance(expression, Expr) and not expression.free_symbols
    if isinstance(expression, Float):
        exact = Rational(str(expression))
    else:
        # What is written in an order is kept so beside the arguments, which are sorted.
        parts = getattr(expression, "_unsorted_args", expression.args)
        parts = [_exact(part, [] if is_number else others) for part in parts]
        options = {"evaluate": False} if isinstance(expression, Relational) else {}
        exact = expression.func(*parts, **options)
    if is_number and (written := _decimal(exact.doit())) is not None:
        exact = next((other for other in others if _rounds(written, other)), exact)
    return exact


def _decimal(number: Expr) -> Decimal | None:
    """The number if it has decimals, and few enough to be written."""
    if not isinstance(number, Rational):
        return None
    with localcontext(prec=_WRITTEN) as context:
        written = Decimal(number.p) / Decimal(number.q)
        return None if context.flags[Inexact] else written


def _rounds(written: Decimal, number: Expr) -> bool:
    value = number.evalf(_WRITTEN + _SPARE)
    return isinstance(value, Float) and is_rounding(written, Decimal(str(value)))


def _differ(gold: Expression, given: Expression) -> bool:
    """Whether what math-verify calls equal is so by its tolerance only."""
    # A word is a symbol, which math-verify compares by its name.
    if gold == given or isinstance(gold, Symbol) or isinstance(given, Symbol):
        return False
    if isinstance(gold, Relational) and isinstance(given, Relational):
        if not all(isinstance(side, Expr) for side in (*gold.args, *given.args)):
            return False
        left, right = (side.lhs - side.rhs for side in (gold, given))
        return any(_are_apart(left, sign * right, _CLOSE) for sign in (1, -1))
    gold, given = (side.rhs if isinstance(side, Relational) else side for side in (gold, given))
    if isinstance(gold, Expr) and isinstance(given, Expr):
        # math-verify lets a percent sign be left out, between whole numbers.
        bare = (side.xreplace({_PERCENT: S.One}) for side in (gold, given))
        return _are_apart(gold, given) and _are_apart(*bare)
    golds, givens = list(_numbers(gold)), list(_numbers(given))
    if not isinstance(gold, Tuple | Interval | MatrixBase):
        return any(
            all(_are_apart(one, other) for other in others)
            for ones, others in ((golds, givens), (givens, golds))
            for one in ones
        )
    return len(golds) == len(givens) and any(map(_are_apart, golds, givens))


def _are_apart(a: Expr, b: Expr, by_less_than: float | None = None) -> bool:
    """Whether two expressions differ where their variables have certain values; by less than a
    bound, if one is given. What cannot be computed does not."""
    names = sorted(a.free_symbols | b.free_symbols, key=str)
    point = {name: Rational(7 + 4 * i, 5 + i) for i, name in enumerate(names)}
    a, b = (side.subs(point).doit() for side in (a, b))
    if isinstance(a, Rational) and isinstance(b, Rational):
        difference, tolerance = abs(a - b), S.Zero
    else:
        digits = min(_SPARE + 2 * (_written_digits(a) + _written_digits(b)), _MOST)
        a, b = (_value(side, digits) for side in (a, b))
        difference = Abs(a - b).evalf(digits)
        tolerance = (Abs(a) + Abs(b)).evalf(digits) * Rational(10) ** (_SPARE // 2 - digits)
    if not (difference.is_comparable and difference > tolerance):
        return False
    return by_less_than is None or bool(difference < by_less_than)


def _written_digits(number: Expr) -> int:
    return sum(len(str(part)) for n in number.atoms(Rational) for part in (n.p, n.q))


def _value(number: Expr, digits: int) -> Expr:
    """The number to so many digits: 0 for what has not one digit that is certain."""
    real, imaginary = (
        S.Zero if isinstance(part, Float) and part._prec == 1 else part
        for part in number.evalf(digits).as_real_imag()
    )
    return real + I * imaginary
