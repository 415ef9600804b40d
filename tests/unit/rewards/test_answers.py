"""Answers by the kind of notation: what is right however it is written, and what only looks so."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest

from stapo_pl.core.types import Problem
from stapo_pl.rewards import GSM8K, DAPORule, Exact, Length, Math, Response, Term, Weighted
from stapo_pl.rewards.answers.notation import rewrite
from stapo_pl.rewards.golds import unmatchable

RIGHT = {
    "numbers": [
        (r"\frac{1}{2^{99}}", "2^{-99}"), (r"\frac{1}{3}", "0.333333"), ("10^{-9}", "1e-9"),
        (r"\frac{2}{3}", "0.6666666"), (r"\pi", "3.141593"), (r"[\frac13,1)", "[0.3333333,1)"),
        (r"\sqrt{5+2\sqrt{6}}", r"\sqrt{2}+\sqrt{3}"), ("2 1/2", "2.5"), (r"50\%", "50"),
    ],
    "names": [("CAT", "C A T"), (r"\angle ABC", r"\angle CBA"), ("xy", "yx"), ("2ab", "2ba"),
              ("V=IR", "V=RI"), ("XYZ", r"\text{XYZ}")],
    "assignments": [("x=1, y=2", "y=2, x=1"), ("x=1, y=2", "(1,2)"), ("(1,2)", "y=2, x=1"),
                    ("(x,y)=(1,2)", "x=1, y=2"), ("1, 2", "x_1=2, x_2=1")],
    "inequalities": [
        ("[-2,3)", r"3>x\ge -2"), (r"(-\infty,-2)\cup(2,\infty)", r"x>2 \text{ or } x<-2"),
        (r"(0,1)\cup(1,\infty)", r"x>0 \text{ and } x\ne 1"), ("1<x<2", r"x\in(1,2)"),
        (r"(-\infty,1)\cup(1,2)\cup(2,\infty)", r"x\neq 1, 2"), ("x>5", "5<x"),
    ],
    "typography": [
        ("-5", "\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH DIGIT FIVE}"), ("x^{-1}", "x\u207b\u00b9"),
        (r"2\sqrt{3}", "2\u221a3"), (r"\frac{5}{2}", "2\u00bd"), ("x_1", "x\u2081"),
        (r"x \le 3", "x\u22643"), (r"\frac{\pi}{2}", "\u03c0/2"), (r"\sqrt{x+1}", "\u221a(x+1)"),
        (r"\{\}", r"\varnothing"), ("5", r"{\color{red}\mathbf{5}}"), ("5", "**$5$**"),
        ("5", r"\textcolor{red}{5}"), (r"\frac12", r"\Large\frac{1}{2}"), ("5", r"\textbf{5}"),
    ],
    "signs": [
        (r"\frac{-1 \pm \sqrt{5}}{2}", r"\frac{-1-\sqrt5}{2}, \frac{-1+\sqrt5}{2}"),
        (r"\frac{3+\sqrt2}{2}, \frac{3-\sqrt2}{2}", r"x=\frac{3 \mp \sqrt2}{2}"),
        (r"x=1\pm\sqrt2", r"x=1+\sqrt2 \text{ or } x=1-\sqrt2"), ("1+2i, 1-2i", r"1\pm 2i"),
              (r"\pm 1, \pm 2", "1,-1,2,-2"), (r"\{2,-2\}", r"\pm 2")],
    "indices": [(r"m_{\min}=3", "3"), ("n^2", r"S_{\max}=n^2"), (r"P_{\text{out}}=5", "5")],
}  # fmt: skip
WRONG = {
    "numbers": [
        (r"\frac{1}{2^{200}}", r"\frac{1}{2^{201}}"), (r"\sqrt{2}+10^{-30}", r"\sqrt{2}"),
        (r"\frac{x}{2^{99}}", r"\frac{x}{2^{98}}"), (r"x=2^{-99}", r"x=2^{-98}"),
        (r"[0,2^{-70}]", r"[0,2^{-71}]"), (r"\{2^{-70},1\}", r"\{2^{-71},1\}"),
        ("e^{-50}", "e^{-60}"),
        (r"\frac{1}{3}", "0.3333"), (r"\frac{1}{3}", "0.333334"), ("10^{-7}", "0.000000"),
        ("1+10^{-8}", "1.000000"), ("(1, 10^{-9})", "(1, 0.0)"), ("e-9", "1e-9"),
    ],
    "names": [("DOG", "GOD"), (r"\angle ABC", r"\angle BAC"), (r"\text{ACT}", "CAT"),
              ("CAT", "(ACT)"), ("MR=SRMC", "RM=SRMC"), ("2ab", "2")],
    "assignments": [("x=1, y=2", "x=2, y=1"), ("x=1, y=2", "2, 1"), ("(1,2)", "x=2, y=1"),
                    ("a=1, b=2", "(x,y)=(1,2)"), ("a=3, b=5, c=7", "(3,7,5)")],
    "inequalities": [("(0, 12.5)", r"0<x\le 12.5"), ("x>5", "y>5"), ("(1,2)", "1<x<3"),
                     (r"(-\infty,-2)\cup(2,\infty)", r"x<-2 \text{ or } x>3")],
    "typography": [("x^2", "x\u00b3"), ("25", "2\u2075"), ("5", r"\color{red}{6}")],
    "signs": [(r"2\pm\sqrt3", r"2+\sqrt3"), (r"2\pm\sqrt3", r"2-\sqrt3, 2+\sqrt2")],
    "indices": [(r"a_{\max}=n", "n+1")],
}  # fmt: skip


@pytest.fixture(scope="module")
def math() -> Math:
    reward = Math()
    reward.prepare()
    return reward


@pytest.mark.parametrize("kind", RIGHT)
def test_answers_of_a_kind(math, kind):
    for correct, pairs in ((True, RIGHT[kind]), (False, WRONG[kind])):
        judged = [
            math.score(Response(rf"\boxed{{{given}}}"), Problem([], gold)).correct
            for gold, given in pairs
        ]
        assert [pair for pair, said in zip(pairs, judged, strict=True) if said != correct] == []


def test_earlier_divisions_change_no_verdict(math):
    _ = Decimal(1) / 3  # sets a flag in the decimal context of this thread
    assert math.score(Response(r"\boxed{0.333333}"), Problem([], r"\frac{1}{3}")).correct


@pytest.mark.parametrize(
    "text, gold",
    [
        (r"So $\boxed 5$.", "5"),
        (r"\boxed5", "5"),
        ("\\boxed\n{5}", "5"),
        (r"\fbox{$5$}", "5"),
        (r"\boxed \frac{1}{2}.", "0.5"),
        (r"\boxed{4} then \boxed 5", "5"),
        (r"\boxed{5} (as \boxed would say)", "5"),
    ],
)
def test_other_forms_of_the_box(math, text, gold):
    assert math.score(Response(text), Problem([], gold)).correct


@pytest.mark.parametrize(
    "text, gold, correct",
    [
        ("#### 72 to 73", "72", False),
        ("#### 72, not 73", "72", False),
        ("#### \\boxed{72} or \\boxed{73}", "73", False),
        ("#### 72 or more", "72", False),
        ("#### 72,73", "7273", False),
        ("#### 9*8=72", "9", False),
        ("#### 72 cm\u00b2", "72", True),
        ("#### \N{FULLWIDTH DIGIT SEVEN}\N{FULLWIDTH DIGIT TWO}", "72", True),
        ("#### 72 \\boxed{72}", "72", True),
        ("#### -$72", "-72", True),
    ],
)
def test_one_number_after_the_mark(text, gold, correct):
    assert GSM8K().score(Response(text), Problem([], gold)).correct is correct


def test_answers_that_nothing_matches_are_counted():
    def said(reward, *answers):
        return unmatchable(
            reward, [Problem([], a, place=f"row {i}") for i, a in enumerate(answers)]
        )

    assert said(GSM8K(), "so #### 7", "1,000") == ""
    line = (
        "4 of 5 answers can never be matched: row 1 (''), row 2 ('1 or 2'), row 3 ('x'), and 1 more"
    )
    assert said(GSM8K(), "7", "", "1 or 2", "x", "1/2") == line
    assert said(Math(), "7", r"\frac{1}{2}", r"\boxed{x}") == ""
    assert said(Math(), "7", r"\frac{1}{", " ", "4" * 2001).startswith("3 of 4 answers")
    assert said(DAPORule(), "7", "4" * 400).startswith("1 of 2 answers")
    terms = {"exact": Term(1, Exact()), "length": Term(1, Length(1, 2))}
    assert said(Weighted(terms), "7", "}{").startswith("1 of 2 answers")
    assert said(Length(1, 2), "") == ""


def test_notation_takes_little_time_whatever_is_repeated():
    for unit in (
        r"\color{",
        r"\color[",
        "{",
        "**",
        "1 ",
        "1 1/",
        "0.",
        "1e",
        "_{\\text{a",
        "\u221a(",
    ):
        start = time.process_time()
        rewrite(unit * (2000 // len(unit)))
        assert time.process_time() - start < 0.5, unit
