r"""Turns inequalities such as `0 < x \le 1` into the sets of their solutions."""

from __future__ import annotations

import re
from itertools import product

from stapo_pl.rewards.answers.lists import split

_SIGNS = {
    "<=": "<=", "=<": "<=", r"\leqslant": "<=", r"\leq": "<=", r"\le": "<=", "<": "<", r"\lt": "<",
    ">=": ">=", "=>": ">=", r"\geqslant": ">=", r"\geq": ">=", r"\ge": ">=", ">": ">", r"\gt": ">",
    r"\neq": "!=", r"\ne": "!=", r"\not=": "!=", "!=": "!=", "=": "=", r"\in": "in",
}  # fmt: skip
_RELATION = re.compile(
    "|".join(re.escape(sign) + r"(?![A-Za-z])" * sign[-1].isalpha() for sign in _SIGNS)
)
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!=", "=": "="}
_VARIABLE = re.compile(
    r"\\?[A-Za-z]{1,10}(?:_(?:[A-Za-z0-9]|\{[A-Za-z0-9]{1,10}\}))?(?:\([a-z]\))?"
)
_BUILDER = re.compile(
    r"(?:\\left)?\\\{\s*(\\?[A-Za-z]{1,10})\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?"
    r"(?:\\mid|\||:|\\colon)(.+)\\\}",
    re.DOTALL,
)
_COMMAND = re.compile(r"\\[A-Za-z]+")
_INFINITY = r"\infty"
_CONSTANTS = (r"\pi", "e", "i", _INFINITY)


def as_sets(given: str, answer: str) -> list[tuple[str, str]]:
    """Pairs of texts; the answers are equal if the texts of one of the pairs are.

    An inequality is replaced by the set of its solutions. If the other answer is a set, the name of
    the variable does not matter.
    """
    read, gold = solutions(given), solutions(answer)
    if (read is None and gold is None) or (read and gold and read[0] != gold[0]):
        return [(given, answer)]
    sets = read[1] if read else [given]
    gold_sets = gold[1] if gold else [answer]
    return [*product(sets, gold_sets), (given, answer)]


def solutions(text: str) -> tuple[str, list[str]] | None:
    r"""The variable of an inequality and, in LaTeX, the sets that it may stand for.

    Several inequalities with commas between them may all have to hold, or may be cases of which one
    holds. So they may stand for two sets.

    Returns:
        None if the text is no inequality, or one that would have to be solved first.

    Example:
        >>> solutions(r"x < 1 \text{ or } x \ge 2")
        ('x', ['((-\\infty,1) \\cup [2,\\infty))'])
        >>> solutions(r"m \neq 3"), solutions("x + 1")
        (('m', ['((-\\infty,3) \\cup (3,\\infty))']), None)
    """
    builder = _BUILDER.fullmatch(text)
    parts = split(builder[2].removesuffix(r"\right") if builder else text)
    variable, previous = "", ""
    sets: list[tuple[list[str], str]] = []
    for part in parts.texts:
        pieces, signs = _RELATION.split(part), [_SIGNS[s] for s in _RELATION.findall(part)]
        if not signs and previous == "!=":  # as in "x \neq 1, 2"
            pieces, signs = [variable, part], ["!="]
        read = _set([piece.strip() for piece in pieces], signs)
        if read is None or variable not in ("", read[0]):
            return None
        variable, previous = read[0], signs[0]
        sets.append((signs, read[1]))
    if {tuple(signs) for signs, _ in sets} <= {("=",), ("in",)} and builder is None:
        # There is no inequality. But a single "x \in ..." names a set.
        return (variable, [sets[0][1]]) if sets[0][0] == ["in"] and len(sets) == 1 else None
    joined = sets[0][1]
    is_case = all(signs == ["!="] for signs, _ in sets)
    results = []
    for comma in (r"\cap",) if is_case else (r"\cap", r"\cup"):
        joins = {",": comma, "and": r"\cap", "or": r"\cup"}
        joined = sets[0][1]
        for separator, (_, other) in zip(parts.separators, sets[1:], strict=True):
            joined = f"({joined} {joins[separator]} {other})"
        results.append(joined)
    return variable, list(dict.fromkeys(results))


def _set(pieces: list[str], signs: list[str]) -> tuple[str, str] | None:
    """The variable of one inequality and the set of its solutions; None if it cannot be read."""
    if not all(pieces):
        return None
    if len(signs) == 2 and _is_variable(pieces[1]):
        (low, name, high), (first, second) = pieces, signs
        if {first, second} <= {">", ">="}:
            low, high, first, second = high, low, _FLIPPED[second], _FLIPPED[first]
        if not {first, second} <= {"<", "<="} or _has(low, name) or _has(high, name):
            return None
        return name, f"{'(['[first == '<=']}{low},{high}{')]'[second == '<=']}"
    if len(signs) != 1:
        return None
    (name, end), (sign,) = pieces, signs
    if not _is_variable(name) and sign != "in":
        name, end, sign = end, name, _FLIPPED[sign]
    if not _is_variable(name) or _has(end, name):
        return None
    below, above = f"(-{_INFINITY},{end}", f"{end},{_INFINITY})"
    sets = {
        "<": f"{below})",
        "<=": f"{below}]",
        ">": f"({above}",
        ">=": f"[{above}",
        "!=": rf"({below}) \cup ({above})",
        "=": rf"\{{{end}\}}",
        "in": end,
    }
    return name, sets[sign]


def _is_variable(text: str) -> bool:
    return _VARIABLE.fullmatch(text) is not None and text not in _CONSTANTS


def _has(text: str, name: str) -> bool:
    return name in (text if name.startswith("\\") else _COMMAND.sub("", text))
