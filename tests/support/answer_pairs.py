r"""Pairs of answers that mean the same, or do not, by edits of the benchmarks' own answers.

An edit takes an answer, without the dollar signs around it, and says None where it does not apply:
each is made only where it certainly keeps, or certainly changes, the meaning.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from itertools import chain, islice, zip_longest
from typing import NamedTuple

Edit = Callable[[str], str | None]

# Of each edit, taken from the sets in turn: so none outweighs the others.
_PAIRS_PER_EDIT = 8

_INTEGER = r"-?[0-9]+"
_DECIMAL = r"-?[0-9]*\.[0-9]+"
_FRACTION = r"(-?)\\d?frac\{([0-9]+)\}\{([0-9]+)\}"
_DEGREES = r"([0-9.]+)\^(\\circ|\{\\circ\})"
_SCIENTIFIC = r"(-?[0-9.]+)e(-?[0-9]+)"
_NUMBER = rf"(?:{_INTEGER}|{_DECIMAL}|{_FRACTION})"
# A list of such integers may be one number.
_SEPARATED = re.compile(r"-?[0-9]{1,3}(,[0-9]{3})+")
_INTEGERS = rf"{_INTEGER}(?:, ?{_INTEGER})+"


class Pair(NamedTuple):
    set: str
    gold: str
    edited: str
    edit: str
    same: bool
    """Whether both mean the same."""


def answer_pairs(answers: dict[str, list[str]]) -> list[Pair]:
    """The pairs that can be made of the answers of each set, the same in each call."""
    pairs: list[Pair] = []
    for edits, same in ((KEEPING, True), (CHANGING, False)):
        for edit_name, edit in edits.items():
            made = (
                [
                    Pair(set_name, gold, edited, edit_name, same)
                    for gold in dict.fromkeys(golds)
                    if (edited := _edited(edit, gold)) is not None
                ]
                for set_name, golds in answers.items()
            )
            in_turn = (pair for pair in chain(*zip_longest(*made)) if pair is not None)
            pairs += islice(in_turn, _PAIRS_PER_EDIT)
    return pairs


def perturbed(answer: str) -> str:
    """A wrong answer of the same kind: its last number is one more, or 1 is added, or other words.

    Example:
        >>> perturbed(r"\\frac{1}{29}"), perturbed("n"), perturbed(r"\\text{even}")
        ('\\\\frac{1}{30}', 'n+1', '\\\\text{none of these}')
    """
    inner, wrap = _unwrapped(answer)
    if re.search("[0-9]", inner):
        return wrap(_last_number_plus_one(inner))
    return r"\text{none of these}" if r"\text" in inner else wrap(f"{inner}+1")


def _edited(edit: Edit, gold: str) -> str | None:
    inner, wrap = _unwrapped(gold)
    edited = edit(inner)
    return None if edited is None or edited == inner else wrap(edited)


def _unwrapped(answer: str) -> tuple[str, Callable[[str], str]]:
    """What stands between dollar signs, and how to put it back there."""
    if answer.startswith("$") and answer.endswith("$") and answer.count("$") == 2:
        return answer[1:-1].strip(), lambda inner: f"${inner}$"
    return answer, lambda inner: inner


def _last_number_plus_one(text: str) -> str:
    # A unit's power is no part of the answer that has to be read.
    *_, last = re.finditer(r"(?<!\}\^)[0-9]+", text)
    return text[: last.start()] + str(int(last[0]) + 1).zfill(len(last[0])) + text[last.end() :]


def _where(pattern: str, edit: Callable[[re.Match[str]], str | None]) -> Edit:
    """Edits answers that are all of a pattern."""
    return lambda text: edit(match) if (match := re.fullmatch(pattern, text)) else None


def _replaced(pattern: str, by: str, *, count: int = 0, unless: str = "(?!)") -> Edit:
    """Edits parts of an answer, unless it has what would make that mean something else."""
    return lambda text: None if re.search(unless, text) else re.sub(pattern, by, text, count=count)


def _fraction_of(match: re.Match[str]) -> Fraction:
    return Fraction(int(match[1] + match[2]), int(match[3]))


def _as_decimal(match: re.Match[str]) -> str | None:
    value = _fraction_of(match)
    return f"{float(value):g}" if 10**4 % value.denominator == 0 else None


def _as_repeating(match: re.Match[str]) -> str | None:
    """By long division, if the period starts at the point and has at most six digits."""
    value = abs(_fraction_of(match))
    for length in range(1, 7):
        if (10**length - 1) % value.denominator == 0 and value.denominator > 1:
            period = value % 1 * (10**length - 1)
            return rf"{match[1]}{int(value)}.\overline{{{int(period):0{length}}}}"
    return None


def _period_off_by_one(match: re.Match[str]) -> str | None:
    repeating = _as_repeating(match)
    if repeating is None or repeating[-2] == "9":
        return None
    return f"{repeating[:-2]}{int(repeating[-2]) + 1}}}"


def _as_fraction(match: re.Match[str]) -> str:
    value = Fraction(match[0])
    sign = "-" if value < 0 else ""
    return rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def _with_sized_brackets(text: str) -> str | None:
    if r"\left" in text or r"\sqrt[" in text or re.search(r"\\[a-z]*(text|begin)", text):
        return None
    return re.sub(r"[)\]]", r"\\right\g<0>", re.sub(r"[(\[]", r"\\left\g<0>", text))


def _with_plain_brackets(text: str) -> str:
    return re.sub(r"\\(left|right)(?=[()\[\]])", "", text)


def _elements(text: str) -> list[str]:
    """Of a set of numbers, a tuple of numbers or a list of them."""
    return re.split(r", ?", text.strip(r"(){}\ "))


def _set_reversed(match: re.Match[str]) -> str:
    return r"\{" + ",".join(reversed(_elements(match[0]))) + r"\}"


def _ascending_reversed(match: re.Match[str]) -> str | None:
    """Numbers in ascending order are solutions: in another order they might be a sequence."""
    if _SEPARATED.fullmatch(match[0]):
        return None
    numbers = _elements(match[0])
    values = [int(number) for number in numbers]
    return ",".join(reversed(numbers)) if values == sorted(set(values)) else None


def _union_reversed(text: str) -> str | None:
    if text.count(r"\cup") != 1 or "$" in text or "." in text:
        return None
    left, right = text.split(r"\cup")
    return rf"{right.strip()} \cup {left.strip()}"


def _off_by_one(match: re.Match[str]) -> str:
    return str(int(match[0]) + 1)


def _sign_flipped(match: re.Match[str]) -> str | None:
    text = match[0]
    if not re.search("[1-9]", text):
        return None
    return text[1:] if text.startswith("-") else f"-{text}"


def _fraction_inverted(match: re.Match[str]) -> str | None:
    swapped = rf"{match[1]}\frac{{{match[3]}}}{{{match[2]}}}"
    return swapped if match[2] not in (match[3], "0") else None


def _element_dropped(match: re.Match[str]) -> str | None:
    *kept, last = _elements(match[0])
    # To drop what is there twice need not be wrong.
    return None if _SEPARATED.fullmatch(match[0]) or last in kept else ",".join(kept)


def _tuple_reversed(match: re.Match[str]) -> str:
    return "(" + ",".join(reversed(_elements(match[0]))) + ")"


def _closed_or_open(text: str) -> str | None:
    """Of what is certainly an interval: it has an infinite or a closed end, or is in a union."""
    if not re.fullmatch(r"[(\[].*(\\infty|\\cup|\]).*[)\]]", text):
        return None
    other = {"(": "[", "[": "(", ")": "]", "]": ")"}
    if not text.startswith(r"(-\infty"):
        return other[text[0]] + text[1:]
    return None if text.endswith(r"\infty)") else text[:-1] + other[text[-1]]


def _point_moved(match: re.Match[str]) -> str | None:
    whole, _, part = match[0].partition(".")
    return f"{whole}{part[0]}.{part[1:]}0" if re.search("[1-9]", match[0]) else None


def _exponent_raised(text: str) -> str:
    """Of the first power of what is not 0 or 1."""
    power = r"(?<=[a-z2-9)])\^(\{?)([2-9])(?!\d)"
    return re.sub(power, lambda match: f"^{match[1]}{int(match[2]) + 1}", text, count=1)


KEEPING: dict[str, Edit] = {
    r"\frac as \dfrac": _replaced(r"\\frac(?=\{)", r"\\dfrac"),
    r"\frac as \tfrac": _replaced(r"\\frac(?=\{)", r"\\tfrac"),
    r"\frac as \frac12": _where(r"\\frac\{(\d)\}\{(\d)\}", lambda m: rf"\frac{m[1]}{m[2]}"),
    r"\frac as a slash": _where(_FRACTION, lambda m: f"{m[1]}{m[2]}/{m[3]}"),
    "fraction as decimal": _where(_FRACTION, _as_decimal),
    "fraction as repeating decimal": _where(_FRACTION, _as_repeating),
    "fraction expanded": _where(
        _FRACTION, lambda m: rf"{m[1]}\frac{{{int(m[2]) * 3}}}{{{int(m[3]) * 3}}}"
    ),
    "decimal as fraction": _where(_DECIMAL, _as_fraction),
    "decimal with a zero more": _where(_DECIMAL, lambda m: m[0] + "0"),
    "decimal without leading zero": _where(r"(-?)0(\.\d+)", lambda m: m[1] + m[2]),
    "integer as decimal": _where(_INTEGER, lambda m: m[0] + ".0"),
    "1.5e9 as a power of ten": _where(_SCIENTIFIC, lambda m: rf"{m[1]} \times 10^{{{int(m[2])}}}"),
    "thousands separated": _where("[0-9]{4,}", lambda m: f"{int(m[0]):,}"),
    r"thousands separated by ,\!": _where(
        "[0-9]{4,}", lambda m: f"{int(m[0]):,}".replace(",", r",\!")
    ),
    r"thousands separated by \,": _where(
        "[0-9]{4,}", lambda m: f"{int(m[0]):,}".replace(",", r"\,")
    ),
    "thousands not separated": _where(
        r"\d{1,3}(,(\\!)? ?\d{3})+", lambda m: re.sub(r"\D", "", m[0])
    ),
    "blanks removed": _replaced(
        r"(?<![A-Za-z\\]) +| +(?![A-Za-z])", "", unless=r"\\(text|mbox|begin)|\\ "
    ),
    "blanks added": _replaced(r" ?([=+,]) ?", r" \1 ", unless=r"\d,(\\!|\d{3})|text|mbox|^\+"),
    r"\left and \right added": _with_sized_brackets,
    r"\left and \right removed": _with_plain_brackets,
    r"\text{ cm} appended": _where(f"{_INTEGER}|{_DECIMAL}", lambda m: m[0] + r"\text{ cm}"),
    r"\mathrm{~m} appended": _where(f"{_INTEGER}|{_DECIMAL}", lambda m: m[0] + r" \mathrm{~m}"),
    "degree sign removed": _where(_DEGREES, lambda m: m[1]),
    "degree sign as a word": _where(_DEGREES, lambda m: rf"{m[1]}\text{{ degrees}}"),
    r"^\circ as ^{\circ}": _replaced(r"\^\\circ", r"^{\\circ}"),
    "set reversed": _where(r"\\\{[^()]+,[^()]+\\\}", _set_reversed),
    "ascending list reversed": _where(_INTEGERS, _ascending_reversed),
    "union reversed": _union_reversed,
    "x = in front": _where(_NUMBER, lambda m: f"x = {m[0]}"),
    "full stop": _where(rf"{_INTEGER}|{_FRACTION}", lambda m: m[0] + "."),
    "dollar signs around": lambda text: None if "$" in text or "\\text" in text else f"${text}$",
    r"\$ removed": _replaced(r"^\\\$", ""),
    r"% as \%": _replaced(r"(?<!\\)%", r"\\%"),
    r"\text removed": _where(r"\\text\{([^{}]*)\}", lambda m: m[1]),
    r"\text around": _where(_INTEGER, lambda m: rf"\text{{{m[0]}}}"),
    r"\cdot as \times": _replaced(r"\\cdot", r"\\times"),
    r"\cdot between factors": _replaced(r"(?<=[0-9]) ?(?=\\sqrt\{|\\pi)", r" \\cdot ", unless="_"),
    r"\times between factors": _replaced(
        r"(?<=[0-9]) ?(?=\\sqrt\{|\\pi)", r" \\times ", unless="_"
    ),
}

CHANGING: dict[str, Edit] = {
    "off by one": _where(_INTEGER, _off_by_one),
    "period off by one": _where(_FRACTION, _period_off_by_one),
    "last number off by one": lambda text: (
        _last_number_plus_one(text)
        if re.search(r"[0-9]", text) and not re.fullmatch(_INTEGER, text)
        else None
    ),
    "sign flipped": _where(_NUMBER, _sign_flipped),
    "fraction inverted": _where(_FRACTION, _fraction_inverted),
    "last digit dropped": _where("-?[1-9][0-9]+", lambda m: m[0][:-1]),
    "decimal point moved": _where(_DECIMAL, _point_moved),
    "power of ten off by one": _where(_SCIENTIFIC, lambda m: f"{m[1]}e{int(m[2]) + 1}"),
    "exponent raised": _exponent_raised,
    "root dropped": _replaced(r"\\sqrt\{([2-9]|[1-9][0-9]+)\}", r"(\1)", count=1),
    "element dropped": _where(_INTEGERS, _element_dropped),
    "tuple reversed": _where(r"\((-?\d+), ?(-?\d+)(, ?-?\d+)*\)", _tuple_reversed),
    "bracket of an interval changed": _closed_or_open,
    "union as intersection": _replaced(r"\\cup", r"\\cap"),
    # Unless there is a constant that may have either sign.
    "first plus as minus": _replaced(r"(?<=.)\+", "-", count=1, unless="text|[Cc]"),
    "pi dropped": _where(r"(-?\d+) ?\\pi", lambda m: m[1]),
    "variable renamed": _replaced(r"(?<![A-Za-z\\])[nx](?![A-Za-z])", "w", unless="="),
    "degrees off by one": _where(r"(\d+)(\^.*circ.*)", lambda m: f"{int(m[1]) + 1}{m[2]}"),
}
