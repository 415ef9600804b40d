r"""Responses that are there to hang, crash or fool what judges them.

None is the right answer to a problem whose answer is 4. Most are the content of a `\boxed{}`, in
families: each makes a bad idea in several spellings or sizes.
"""

from __future__ import annotations

from collections.abc import Iterator


def hostile_responses() -> list[tuple[str, str]]:
    """Names and texts, the same in each call."""
    boxed = [(name, rf"So \boxed{{{content}}}.") for name, content in _contents()]
    return [*boxed, *_whole_texts()]


def _contents() -> Iterator[tuple[str, str]]:
    families = (
        _towers, _factorials, _huge_numbers, _sums, _intervals_and_sets, _polynomials, _functions,
        _matrices, _relations, _units_and_junk, _characters, _code, _unbalanced, _nested, _long,
    )  # fmt: skip
    for family in families:
        for name, content in family():
            yield f"{family.__name__.strip('_')}: {name}", content


def _towers() -> Iterator[tuple[str, str]]:
    for base in ("9", "x", r"\pi", "0.5", "-9", "i", "(1+x)"):
        for height in (4, 8):
            yield f"{base} braces {height}", "^{".join([base] * height) + "}" * (height - 1)
    for height in (4, 20, 300):
        yield f"stars {height}", "**".join(["9"] * height)
        yield f"parentheses {height}", "^(".join(["9"] * height) + ")" * (height - 1)
        yield f"negative {height}", "^{-".join(["9"] * height) + "}" * (height - 1)
    yield "commands", r"9^{9^{9^{\frac{9^{9}}{2}}}}"
    yield "roots", r"\sqrt[9^{9^{9}}]{9^{9^{9^{9}}}}"
    yield "fraction", r"\frac{9^{9^{9^{9}}}}{9^{9^{9^{9}}}+1}"
    yield "difference", r"9^{9^{9^{9}}}-9^{9^{9^{9}}}+5"
    yield "modulo", r"9^{9^{9^{9}}} \bmod 7"
    yield "exponent of exponent", r"((((9^{99})^{99})^{99})^{99})^{99}"
    yield "one large exponent", "2^{99999999999}"
    yield "one large fractional exponent", r"2^{\frac{99999999999}{7}}"
    yield "knuth", r"9 \uparrow\uparrow\uparrow 9"


def _factorials() -> Iterator[tuple[str, str]]:
    for marks in (2, 5, 100):
        yield f"marks {marks}", "9" + "!" * marks
        yield f"parentheses {marks}", "(" * marks + "9" + ")!" * marks
    for number in ("99999", "999999999", "9^{99}", "-1.5", "x", "10^{10^{10}}"):
        yield f"of {number}", rf"({number})!"
        yield f"quotient of {number}", rf"\frac{{({number})!}}{{({number}-1)!}}"
    for top, bottom in (("10^{9}", "5 \\cdot 10^{8}"), ("10^{99}", "10^{98}"), ("n", "10^{9}")):
        yield f"binomial {top}", rf"\binom{{{top}}}{{{bottom}}}"


def _huge_numbers() -> Iterator[tuple[str, str]]:
    for number in (
        "1e999999999", "1e-999999999", "1E+999999999999999999", "-1e999", "nan", "inf", "-inf",
        "Infinity", r"\infty", r"\infty-\infty", r"\frac{0}{0}", r"\frac{4}{0}", "0^0", "zoo",
        "0x" + "f" * 200, "1_000_000", "1" + "0" * 1900, "0." + "0" * 1900 + "4", "4." + "9" * 1900,
        "1" + ",000" * 400, r"10^{-10^{10}}", r"4+10^{-10^{10}}", r"0.\overline{3}^{9^{9^{9}}}",
    ):  # fmt: skip
        yield number[:30], number


def _sums() -> Iterator[tuple[str, str]]:
    for command in (r"\sum", r"\prod"):
        for upper in ("10^{10}", r"\infty", "9^{9^{9}}"):
            yield f"{command} to {upper}", rf"{command}_{{k=1}}^{{{upper}}} \frac{{1}}{{k^{{k}}+1}}"
        yield f"{command} nested", rf"{command}_{{i=1}}^{{999}}" * 30 + " i"
    for integrand in (r"e^{-x^{x^{x}}}", r"\frac{\sin(x^x)}{\ln\ln x}", r"\sqrt{1+x^{97}+\tan x}"):
        yield f"integral of {integrand}", rf"\int_{{0}}^{{\infty}} {integrand} dx"
    yield "integrals", r"\int_0^1" * 40 + r" x^{x} " + "dx" * 40
    yield "limit", r"\lim_{x \to \infty} \frac{x^{x^{x}}}{(x^{x})!}"
    yield "limits", r"\lim_{x \to 0}" * 100 + r"\frac{\sin x}{x}"
    yield "derivative", r"\frac{d^{999}}{dx^{999}} \tan(\tan(\tan x))"
    yield "continued fraction", r"1+\frac{1}{" * 150 + "1" + "}" * 150
    yield "infinite recursion", r"x=\sqrt{4+x}=\sqrt{4+\sqrt{4+\sqrt{4+\dots}}}"


def _intervals_and_sets() -> Iterator[tuple[str, str]]:
    yield "enormous", r"[-10^{10^{10}}, 9^{9^{9^{9}}}]"
    yield "reversed", "[9, -9]"
    yield "of complex numbers", r"[i, 4i) \cup (\infty, -\infty]"
    for count in (20, 150):
        yield f"union of {count}", r"\cup".join(f"({k},{k}.5]" for k in range(count))
        yield f"intersection of {count}", r"\cap".join(f"[{k},\\infty)" for k in range(count))
        yield f"differences of {count}", r"\setminus".join(f"[{k},x]" for k in range(count))
        yield f"set of {count}", r"\{" + ",".join(map(str, range(5, 5 + count))) + r"\}"
        yield (
            f"set of {count} roots",
            r"\{" + ",".join(rf"\sqrt{{{k}}}" for k in range(count)) + "}",
        )
        yield f"tuple of {count}", "(" + ",".join(f"x_{{{k}}}" for k in range(count)) + ")"
    yield "set of 3000", r"\{" + ",".join(map(str, range(3000))) + r"\}"
    yield "sets in sets", r"\{" * 300 + "4" + r"\}" * 300
    yield "power set", r"\mathcal{P}(\mathcal{P}(\mathcal{P}(\{1,\dots,999\})))"
    yield "builder", r"\{x \in \mathbb{R} : \forall \epsilon > 0 \, \exists y : x^{y^{x}} = y\}"


def _polynomials() -> Iterator[tuple[str, str]]:
    for power in (50, 500, 10**9):
        yield f"power {power}", f"(x+y+z)^{{{power}}}"
        yield f"equation {power}", f"(x+y+z)^{{{power}}} = (x-y)^{{{power}}}+1"
    yield "written out", "+".join(f"{k}x^{{{k}}}" for k in range(200))
    yield "equation written out", "+".join(f"{k}x^{{{k}}}" for k in range(150)) + "=0"
    yield "many symbols", "".join(f"(x_{{{k}}}+y_{{{k}}})" for k in range(100))
    yield "product of brackets", "".join(f"(x-{k})" for k in range(200)) + "=5"
    yield "rational", r"\frac{(x+1)^{999}-(x-1)^{999}}{(x+2)^{998}-x^{997}}"
    yield "nested squares", "(" * 60 + "x+1" + ")^2" * 60
    yield "nested squares and terms", "(" * 25 + "x" + "+y)^2" * 25


def _functions() -> Iterator[tuple[str, str]]:
    for function in ("sin", "tan", "exp", "ln", "log", "arctan", "sqrt", "cosh"):
        left, right = ("{", "}") if function == "sqrt" else ("(", ")")
        yield f"tower of {function}", rf"\{function}{left}" * 60 + "x+4" + right * 60
    yield "powers of sine", r"\sin^{999}(x)\cos^{999}(x)+\sin^{-1}(\sin(x))^{10^{9}}"
    yield "sum of angles", r"\sin(" + "+".join(f"x_{{{k}}}" for k in range(60)) + ")"
    yield "product of sines", "".join(rf"\sin({k}^{{\circ}})" for k in range(1, 90))
    yield "nested roots of numbers", r"\sqrt{2+" * 60 + "2" + "}" * 60
    yield "cube roots", "+".join(rf"\sqrt[3]{{{k}+\sqrt{{{k}}}}}" for k in range(2, 40))
    yield "hidden zero", r"\sqrt{2+\sqrt{3}}-\frac{\sqrt{6}+\sqrt{2}}{2}"
    yield "hidden zero in sines", r"\sin(10^{40})^2+\cos(10^{40})^2-1+10^{-60}"
    yield "gamma", r"\Gamma(10^{10^{10}})+\Gamma(-10^{9}+0.5)"
    yield "zeta", r"\zeta(\zeta(\zeta(\frac{1}{2}+10^{9}i)))"
    yield "prime", r"\pi(10^{99})+p_{10^{99}}"
    yield "divisors", r"\gcd(10^{99999}, 9^{99999})"
    yield "floor", r"\lfloor 9^{9^{9^{9}}} \rfloor + \lceil e^{e^{e^{e^{e}}}} \rceil"
    yield "logarithm in large base", r"\log_{9^{9^{9}}}(9^{9^{9^{9}}})"
    yield "absolute values", "|" * 501 + "x" + "|" * 501
    yield "complex power", r"i^{i^{i^{i^{i^{i}}}}}+e^{i\pi 10^{99}}"


def _matrices() -> Iterator[tuple[str, str]]:
    def matrix(size: int, entry: str) -> str:
        row = "&".join([entry] * size)
        return r"\begin{pmatrix}" + r"\\".join([row] * size) + r"\end{pmatrix}"

    for size, entry in ((1, "x"), (12, "x^{x}"), (30, "4"), (200, "4"), (8, r"\sqrt{x+y}")):
        yield f"{size} of {entry}", matrix(size, entry)
        yield f"power of {size} of {entry}", matrix(size, entry) + "^{10^{9}}"
    yield "determinant", rf"\det{matrix(20, 'x')}"
    yield "of matrices", matrix(3, matrix(3, matrix(2, "x")))
    yield "ragged", r"\begin{pmatrix}1&2\\3\\4&5&6\end{pmatrix}"
    yield "empty", r"\begin{pmatrix}\end{pmatrix}"
    yield "never ended", r"\begin{pmatrix}1&2\\"
    yield "begun 200 times", r"\begin{pmatrix}" * 100


def _relations() -> Iterator[tuple[str, str]]:
    for relation in ("<", r"\le", "=", r"\neq", r"\in", r"\approx", r"\equiv", r"\pm", r"\mp"):
        yield f"chain of {relation}", relation.join(f" x_{{{k}}} " for k in range(100))
    yield "chain of plus or minus numbers", r"1 \pm 2" + r" \pm \sqrt{3}" * 24
    yield "quadratic system", ", ".join(f"x_{{{k}}}^2+x_{{{k + 1}}}=4" for k in range(60))
    yield "transcendental", r"x^{x}=e^{\sin x}+\ln(\tan(x^{x}))"
    yield "or", r"\text{ or }".join(f"x={k}" for k in range(5, 200))
    yield "and", r"\text{ and }".join(f"x={k}" for k in range(5, 200))


def _units_and_junk() -> Iterator[tuple[str, str]]:
    yield "percents", "5" + r"\%" * 500
    yield "dollars", r"\$" * 500 + "5"
    yield "bare dollars", "$" * 501 + "5"
    yield "degrees", "5" + r"^\circ" * 300
    yield "units", "5" + r"\text{ cm}" * 150
    yield "unit powers", r"5\mathrm{~m}^{9^{9^{9^{9}}}}"
    yield "times of day", "12:00:00:00 a.m. p.m."
    yield "commas", "," * 1500
    yield "dots", "." * 1500
    yield "spaces", r"\ \, \; \! \quad~" * 80
    yield "empty", ""
    yield "blank", " \n\t\r\v\f"
    yield "words", "the answer is a number " * 80
    yield "equals", "=" * 1500
    yield "signs", "+-" * 700 + "5"
    yield "carets", "x" + "^" * 900 + "5"
    yield "underscores", "x" + "_" * 900 + "5"
    yield "primes", "x" + "'" * 900


def _characters() -> Iterator[tuple[str, str]]:
    for name, characters in (
        ("null", "\0"), ("controls", "".join(map(chr, range(32)))), ("delete", "\x7f\x80\x9f"),
        ("high surrogate", "\ud800"), ("low surrogate", "\udfff"), ("pair", "\ud83d\ude00"),
        ("right to left", "\u202e\u200f\u2067"), ("zero width", "\u200b\u200d\ufeff\u2060"),
        ("emoji", "\U0001f9d1\u200d\U0001f680"), ("combining", "e" + "\u0301" * 99),
        ("foreign digits", "\u0664\u06f4\u096a\uff14\U0001d7d2"), ("superscripts", "x\u2074\u00b2"),
        ("fractions", "\u00bd\u2158\u2153"), ("mathematics", "\u221a\u2211\u222b\u221e\u2260"),
        ("minus signs", "\u22124\u20134\u20144"), ("separators", "\u2028\u2029\x85\xa0\u3000"),
        ("private", "\ue000\U0010ffff\ufffe"), ("ideographs", "\u56db\u8086"),
    ):  # fmt: skip
        yield name, characters
        yield f"{name} in numbers", f"1{characters}5" * 20


def _code() -> Iterator[tuple[str, str]]:
    for code in (
        "__import__('os').system('exit 4')", "().__class__.__bases__[0].__subclasses__()",
        "exit()", "exec('while 1: pass')", "lambda: (yield)", "Symbol('x').subs(x, 4)", "S(4)",
        "import sys; sys.setrecursionlimit(10**9)", "{0.__class__.__init__.__globals__}",
        "%s%s%s%n", "{}{}{}", "${jndi:ldap://x}", "'; DROP TABLE answers; --", "../../etc/passwd",
        r"\input{/dev/zero}", r"\write18{true}", r"\def\x{\x\x}\x", r"\newcommand{\x}{\x\x}\x",
        r"\loop\iftrue\repeat", r"\expandafter" * 150, "<script>4</script>",
        "N(pi, 10**9)", "factorial(factorial(99))", "Integer(9)**9**9**9", "print(9**9**9**9)",
    ):  # fmt: skip
        yield code[:40], code


def _unbalanced() -> Iterator[tuple[str, str]]:
    yield from (
        ("fraction of nothing", r"\frac"), ("half a fraction", r"\frac{1}"), ("left", r"\left(1"),
        ("right", r"1\right)"), ("brackets", "[(1])"), ("root", r"\sqrt["), ("backslash", "5\\"),
        ("escaped braces", r"\{\{\{1\}"), ("exponent", "2^"), ("index", "x_"), ("slash", "5/"),
        ("brackets 900", "(" * 900), ("closing 900", ")" * 900), ("mixed 900", "([" * 450),
    )  # fmt: skip


def _nested() -> Iterator[tuple[str, str]]:
    for depth in (150, 10_000):
        for opening, closing in (
            ("{", "}"), ("(", ")"), (r"\frac{1}{", "}"), (r"\sqrt{", "}"), (r"\boxed{", "}"),
            (r"\text{", "}"), (r"\left(", r"\right)"), ("-(", ")"), ("x^{", "}"),
        ):  # fmt: skip
            yield f"{opening} {depth}", opening * depth + "5" + closing * depth


def _long() -> Iterator[tuple[str, str]]:
    for piece in ("9", "x", "{}", "\\", " ", "(x+1)", "1+", r"\frac", "\ud800", "\0"):
        for length in (1_999, 100_000):
            yield f"{piece!r} {length}", (piece * length)[: length - length % len(piece)]


def _whole_texts() -> Iterator[tuple[str, str]]:
    yield "text: empty", ""
    yield "text: null", "\0"
    yield "text: surrogate", "\ud800"
    yield "text: a million backslashes", "\\" * 1_000_000
    yield "text: 100000 boxes", r"\boxed{5}" * 100_000
    yield "text: 100000 open boxes", r"\boxed{" * 100_000
    yield "text: a million closing braces", r"\boxed{5}" + "}" * 1_000_000
    for mark, close in (("####", ""), ("Answer:", ""), (r"\boxed{", "}")):
        for name, content in (
            ("digits", "9" * 1_000_000),
            ("separators", "9," * 500_000),
            ("signs", "-" * 100_000 + "4"),
            ("blanks", " " * 1_000_000),
            ("lines", "\n" * 1_000_000),
            ("exponent", "4e999999999"),
            ("foreign digit", "\u0664"),
            ("not a number", "nan"),
            ("surrogate", "\ud800"),
            ("dots", "." * 100_000),
        ):
            yield f"text: {mark} {name}", f"{mark} {content}{close}"
        yield f"text: {mark} repeated", mark * 100_000
        yield f"text: {mark} and blanks repeated", f"{mark}   " * 50_000
