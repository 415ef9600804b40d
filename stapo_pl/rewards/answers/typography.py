r"""Replaces typographic characters by LaTeX, and removes type sizes, weights and colours."""

# ruff: noqa: RUF001, RUF002 - this file is about characters that look like others.

from __future__ import annotations

import re
import unicodedata
from itertools import groupby

_GREEK = {
    chr(code): rf"\{name} "
    for first, names in (
        (
            0x3B1,
            "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi _ pi rho "
            "_ sigma tau upsilon phi chi psi omega",
        ),
        (0x393, "Gamma Delta _ _ _ Theta _ _ Lambda _ _ Xi _ Pi _ _ Sigma _ _ Phi _ Psi Omega"),
    )
    for code, name in enumerate(names.split(), first)
    if name != "_"
}
_CHARACTERS = _GREEK | {
    **dict.fromkeys("−‐‑‒–—﹣－", "-"),
    **dict.fromkeys("\u00a0\u2002\u2003\u2004\u2005\u2007\u2009\u200a\u202f\u3000", " "),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\u2061\u2062\ufeff", ""),
    **dict.fromkeys("·⋅∙", r"\cdot "),
    **dict.fromkeys("∕⁄", "/"),
    **dict.fromkeys("≤⩽≦", r"\leq "),
    **dict.fromkeys("≥⩾≧", r"\geq "),
    **dict.fromkeys("∅⌀", r"\emptyset "),
    **dict.fromkeys("∣│", "|"),
    **dict.fromkeys("〈⟨", r"\langle "),
    **dict.fromkeys("〉⟩", r"\rangle "),
    "×": r"\times ",
    "÷": r"\div ",
    "±": r"\pm ",
    "∓": r"\mp ",
    "∞": r"\infty ",
    "≠": r"\neq ",
    "≈": r"\approx ",
    "°": r"^\circ ",
    "′": "'",
    "、": ",",
    "。": ".",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∖": r"\setminus ",
    "∈": r"\in ",
    "∨": r"\lor ",
    "∧": r"\land ",
    "∠": r"\angle ",
    "△": r"\triangle ",
    "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}",
    "ℚ": r"\mathbb{Q}",
    "ℕ": r"\mathbb{N}",
    "ℂ": r"\mathbb{C}",
    "⌊": r"\lfloor ",
    "⌋": r"\rfloor ",
    "⌈": r"\lceil ",
    "⌉": r"\rceil ",
    "√": r"\sqrt ",
    "∛": r"\sqrt[3] ",
    "∜": r"\sqrt[4] ",
}
_MINUS = "−"
# These characters look raised, but they are signs of their own and no powers.
_FIRST = str.maketrans({"º": "°", "™": "", "℠": ""})
_TRANSLATED = str.maketrans(_CHARACTERS)
# A root without braces covers the group, number or letter that follows it.
_ROOT = re.compile(r"([√∛∜])\s*(?:\(([^(){}√∛∜]{1,200})\)|([0-9]+(?:\.[0-9]+)?|[A-Za-z]))")
# Commands that change the type. Braces around the text that they apply to are kept.
_STYLE = re.compile(
    r"\\(?:(?:text)?color\s{0,9}(?:\[[^\[\]{}]{0,20}\])?\s{0,9}\{[^{}]{0,40}\}"
    r"|(?:boldsymbol|bm|pmb|mathbf|mathit|mathsf|mathtt|mathnormal|textcolor"
    r"|displaystyle|textstyle|scriptstyle|scriptscriptstyle|tiny|scriptsize|footnotesize|small"
    r"|normalsize|large|Large|LARGE|huge|Huge|bf|it|rm|sf|tt|bfseries|itshape|underline)"
    r"(?![A-Za-z])\s{0,9})"
)
_COLOUR_BOX = re.compile(r"\\colorbox\s{0,9}\{[^{}]{0,40}\}")
_TEXT = re.compile(r"\\text(?:bf|it|rm|sf|tt|sl|md|up|normal)(?=\s{0,9}\{)")
_QUOTED_NUMBER = re.compile(
    r"\\(?:text|mathrm|mbox|hbox)\s{0,9}\{\s{0,9}([-+]?[0-9][0-9.,/]{0,99})\s{0,9}\}"
)
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_MARKS = (
    ("**",) * 2,
    ("__",) * 2,
    ("*",) * 2,
    ("_",) * 2,
    ("`",) * 2,
    ("$",) * 2,
    (r"\(", r"\)"),
    (r"\[", r"\]"),
)


def characters(text: str) -> str:
    r"""The text with typographic characters replaced by LaTeX.

    These are full-width characters, signs, Greek letters, roots, fractions, powers and indices.

    Example:
        >>> characters("（−½，√2）"), characters("x₁²≤∞")
        ('(-\\frac{1}{2},\\sqrt{2})', 'x_{1}^{2}\\leq \\infty ')
    """
    if text.isascii():
        return text
    text = text.translate(_FIRST)
    text = "".join(
        _shifted(kind, "".join(run)) if kind else "".join(map(_fraction, run))
        for kind, run in groupby(text, _shift)
    )
    text = _ROOT.sub(lambda m: rf"{_CHARACTERS[m[1]].strip()}{{{m[2] or m[3]}}}", text)
    # The other characters mean the same in any form, such as full-width, bold or italic.
    return unicodedata.normalize("NFKC", text.translate(_TRANSLATED))


def _fraction(character: str) -> str:
    parts = unicodedata.normalize("NFKC", character).split("⁄")
    return rf"\frac{{{parts[0]}}}{{{parts[1]}}}" if len(parts) == 2 and all(parts) else character


def _shift(character: str) -> str:
    """`^` for a raised character, `_` for a lowered one, by the Unicode database; else empty."""
    kind = unicodedata.decomposition(character).partition(" ")[0]
    return {"<super>": "^", "<sub>": "_"}.get(kind, "")


def _shifted(kind: str, run: str) -> str:
    return f"{kind}{{{unicodedata.normalize('NFKC', run).replace(_MINUS, '-')}}}"


def plain(text: str) -> str:
    r"""The text without type sizes, weights and colours, and without marks around the whole text.

    Such marks are Markdown's bold print, dollar signs, and the braces of a group.

    Example:
        >>> plain(r"{\color{red}\boldsymbol{5}}"), plain("**73**"), plain(r"{1}+{2}")
        ('5', '73', '{1}+{2}')
    """
    if "\\" in text:
        text = _STYLE.sub("", _COLOUR_BOX.sub("", text))
        text = _QUOTED_NUMBER.sub(r"\1", _TEXT.sub(r"\\text", text))
    text = text.strip()
    while (inner := _unmarked(text)) is not None:
        text = inner.strip()
    return text


def _unmarked(text: str) -> str | None:
    """The text between the marks around it; None if there are no marks around the whole text."""
    for left, right in _MARKS:
        inner = text[len(left) : -len(right)]
        around = text.startswith(left) and text.endswith(right) and len(text) > 2 * len(left)
        if around and left not in inner and right not in inner and not inner.endswith("\\"):
            return inner
    inner = text[1:-1]
    return inner if text.startswith("{") and text.endswith("}") and _is_group(inner) else None


def _is_group(inner: str) -> bool:
    depth = 0
    for brace in _BRACE.finditer(inner):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth < 0:
            return False
    return depth == 0 and bool(inner.strip()) and not inner.endswith("\\")
