"""Compares expressions that math-verify has read: exactly, or at the precision that is written.

math-verify calls two expressions equal if they agree to six decimals and one of them is a decimal,
or if they agree to fifteen decimals otherwise. That is too generous. So decimals are replaced by
fractions before it compares, and what it calls equal is computed again to as many digits as needed.

This file imports sympy, which is slow. So `rewards/math.py` imports this file when it judges.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, Inexact, localcontext
from typing import TypeAlias

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

# An expression is computed to so many digits more than its numbers have, but to no more than _MOST.
_SPARE, _MOST = 40, 5000
# Nobody writes a decimal with more digits. A fraction that needs more is no decimal.
_WRITTEN = 50
# math-verify may have called relations equal whose sides differ by less than this.
_CLOSE = 1e-10
# math-verify reads a percent sign as this factor.
_PERCENT = UnevaluatedExpr(Rational(1, 100))

Expression: TypeAlias = Basic | MatrixBase


def equal(gold: Expression | str, given: Expression | str) -> bool:
    """Whether the problem's answer and the response's answer mean the same.

    Args:
        gold: the problem's answer, as `math_verify.parse` returns it: an expression, or text that
            it could not read.
        given: the response's answer, in the same form.
    """
    if isinstance(gold, str) or isinstance(given, str):
        return verify(gold, given, timeout_seconds=None, raise_on_error=True)
    given = _exact(given, list(_numbers(gold)))
    gold = _exact(gold, list(_numbers(given)))
    return verify(gold, given, timeout_seconds=None, raise_on_error=True) and not _differ(
        gold, given
    )


def _numbers(expression: Expression) -> Iterator[Expr]:
    """The largest parts of an expression that contain no variable."""
    if isinstance(expression, MatrixBase):
        for part in expression:
            yield from _numbers(part)
    elif isinstance(expression, Expr) and not expression.free_symbols:
        yield expression
    else:
        for part in expression.args:
            yield from _numbers(part)


def _exact(expression: Expression, others: list[Expr]) -> Expression:
    """The expression with each decimal replaced by a fraction.

    If the decimal is a rounding of one of `others`, it is replaced by that number.
    """
    if not expression.has(Float):
        return expression
    if isinstance(expression, MatrixBase):
        return expression.applyfunc(lambda part: _exact(part, others))
    is_number = isinstance(expression, Expr) and not expression.free_symbols
    if isinstance(expression, Float):
        exact = Rational(str(expression))
    else:
        # sympy sorts the arguments, and keeps some of them in their written order as well.
        parts = getattr(expression, "_unsorted_args", expression.args)
        parts = [_exact(part, [] if is_number else others) for part in parts]
        options = {"evaluate": False} if isinstance(expression, Relational) else {}
        exact = expression.func(*parts, **options)
    if is_number and (written := _decimal(exact.doit())) is not None:
        exact = next((other for other in others if _rounds(written, other)), exact)
    return exact


def _decimal(number: Expr) -> Decimal | None:
    """The number as a decimal; None if a decimal of a reasonable length cannot be equal to it."""
    if not isinstance(number, Rational):
        return None
    with localcontext(prec=_WRITTEN) as context:
        context.clear_flags()  # earlier divisions in this thread may have set them
        written = Decimal(number.p) / Decimal(number.q)
        return None if context.flags[Inexact] else written


def _rounds(written: Decimal, number: Expr) -> bool:
    value = number.evalf(_WRITTEN + _SPARE)
    return isinstance(value, Float) and is_rounding(written, Decimal(str(value)))


def _differ(gold: Expression, given: Expression) -> bool:
    """Whether two expressions differ that math-verify calls equal because of its tolerance."""
    # A word is read as a symbol. math-verify compares symbols by their names.
    if gold == given or isinstance(gold, Symbol) or isinstance(given, Symbol):
        return False
    if isinstance(gold, Relational) and isinstance(given, Relational):
        if not all(isinstance(side, Expr) for side in (*gold.args, *given.args)):
            return False
        left, right = (side.lhs - side.rhs for side in (gold, given))
        return any(_are_apart(left, sign * right, _CLOSE) for sign in (1, -1))
    gold, given = (side.rhs if isinstance(side, Relational) else side for side in (gold, given))
    if isinstance(gold, Expr) and isinstance(given, Expr):
        # math-verify allows that a percent sign is left out, if the numbers are whole.
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
    """Whether two expressions differ when certain numbers are put in place of their variables.

    If `by_less_than` is given, only a smaller difference counts. Expressions that cannot be
    computed do not differ.
    """
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
    """The number to this many digits. A part of which no digit is certain becomes 0."""
    real, imaginary = (
        S.Zero if isinstance(part, Float) and part._prec == 1 else part
        for part in number.evalf(digits).as_real_imag()
    )
    return real + I * imaginary
