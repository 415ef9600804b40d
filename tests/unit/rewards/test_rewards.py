"""What each reward says, and what all of them must be able to do."""

from __future__ import annotations

import inspect
import pickle
import re
import sys
from decimal import Decimal

import pytest
import yaml
from jsonargparse import ArgumentParser

from stapo_pl import rewards
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Problem
from stapo_pl.rewards import (
    GSM8K,
    DAPORule,
    Exact,
    Format,
    Function,
    Length,
    Math,
    Response,
    Reward,
    Score,
    Term,
    Weighted,
)
from stapo_pl.rewards.answers.boxed import last_boxed
from stapo_pl.rewards.answers.numeric import read_number, same_number
from stapo_pl.rewards.dapo import normalize
from support.places import CONFIGS

YAMLS = sorted((CONFIGS / "reward").glob("*.yaml"))


def judge(reward: Reward, text: str, answer: str = "4", tokens: int = 0) -> Score:
    problem = Problem([], answer, extra={"source_dataset": "chain_sum"})
    return reward.score(Response(text, tokens), problem)


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """Writes my_rewards.py, as a user would."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(source: str) -> None:
        sys.modules.pop("my_rewards", None)
        (tmp_path / "my_rewards.py").write_text(source)

    yield write
    sys.modules.pop("my_rewards", None)


@pytest.mark.parametrize(
    "text, content",
    [
        (r"\boxed{59}.", "59"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} and \boxed{2", "1"),
        (r"\boxed{}", ""),
        ("no box", None),
        (r"\boxed{never closed", None),
        (r"\boxed{\boxed{3}}", "3"),
        (r"} \boxed{4} {", "4"),
        (r"\boxed{3} and \boxed{\left\{1,2\right.}", r"\left\{1,2\right."),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{1 \\{2}}", r"1 \\{2}"),
        (r"\boxed{" * 30_000, None),
    ],
)
def test_last_boxed(text, content):
    assert last_boxed(text) == content


def test_exact():
    assert judge(Exact(), r"so \boxed{ 59}.", "59").reward == 1.0
    assert not judge(Exact(), r"so \boxed{59.0}", "59").correct
    assert judge(Exact(), "59", "59").extracted is None


@pytest.mark.parametrize(
    "response, answer, correct",
    [
        (r"\boxed{\frac{1}{2}}", "0.5", True),
        (r"\boxed{204}", r"\boxed{204}", True),
        (r"\boxed{\left(3,\frac{\pi}{2}\right)}", r"\left( 3, \frac{\pi}{2} \right)", True),
        (r"\boxed{205}", "204", False),
        (r"\boxed{\frac{1}{}", "204", False),
        ("204", "204", False),
        (r"\boxed{204.}", "204", True),
        (r"\boxed{20.4}", "204", False),
        (r"\boxed{-\frac{1}{3}}", "-1./3", True),
        (r"\boxed{2}", r"\hbar \omega(v+1 / 2)-\frac{E_{0}^{2} e^{2}}{2 m \omega^{2}}", False),
        (r"\boxed{give me 4}", "4", False),
        (r"\boxed{__import__('os').system('exit 4')}", "4", False),
        (r"\boxed{ (1, 2]. }", "(1,2]", True),
        (r"\boxed{4.5 \times 10^{-33}}", "4.5e-33", True),
        (r"\boxed{$4.5 \cdot 10^3 \,\mathrm{~m}^2$}", "4.5e3", True),
        (r"\boxed{10^{-33}}", "4.5e-33", False),
        (r"\boxed{3e8}", "300000000", True),
        (r"\boxed{3e7}", "300000000", False),
        (r"\boxed{1e-999999999}", "0", False),
        (r"\boxed{4.6e-33}", "4.5e-33", False),
        (r"\boxed{-1300000}", "-1.3e6", True),
        (r"\boxed{13e5}", "1.3E+6", True),
        (r"\boxed{1.3e7}", "1.3e6", False),
        (r"\boxed{2e}", r"2 \cdot e", True),  # not a power of ten
        (r"\boxed{2516_{8}}", "2516_8", True),
        (r"\boxed{2516}", "2516_8", True),
        (r"\boxed{2516_9}", "2516_8", False),
        (r"\boxed{2517_8}", "2516_8", False),
        (r"\boxed{(2516)_8}", "2516_8", True),
        (r"\boxed{x_{1}}", "x_1", True),
        (r"\boxed{0.\overline{3}}", r"\frac{1}{3}", True),
        (r"\boxed{0.\overline{3}}", r"0.\overline{6}", False),
        (r"\boxed{0.\dot{3}}", "0", False),
        (r"\boxed{-3.1\bar{6}}", r"-\frac{19}{6}", True),
        (r"\boxed{x=0.\dot{1}4285\dot{7}}", r"\frac{1}{7}", True),
        (r"\boxed{2\mathrm{i}}", "2", False),
        (r"\boxed{2\mathrm{i}}", "2i", True),
        (r"\boxed{\mathrm{e}^{\pi\mathrm{i}/3}}", r"e^{\pi i/3}", True),
        (r"\boxed{5\text{ million dollars}}", "5000000", True),
        (r"\boxed{5\text{ million}}", "5", False),
        (r"\boxed{1\,000\,000}", "1000000", True),
        (r"\boxed{(1\,2)}", "(1,2)", False),
        (r"\boxed{\approx 204}", "204", True),
        (r"\boxed{= 204}", "204", True),
        ("\\boxed{5\u00b0}", r"5^\circ", True),
        ("\\boxed{5\u00b0}", "6", False),
    ],
)
def test_math(response, answer, correct):
    assert judge(Math(), response, answer).correct is correct


def test_math_refuses_answers_over_2000_characters():
    score = judge(Math(), rf"\boxed{{{'4' * 2001}}}", "4" * 2001)
    assert not score.correct and "2001 characters" in score.reason


@pytest.mark.parametrize(
    "text, value",
    [
        ("12", "12"),
        ("-.5", "-0.5"),
        ("1.5e-9", "1.5e-9"),
        ("+1.E+9", "1e9"),
        (r"$1.5 \times 10^{-9}$", "1.5e-9"),
        (r"2 \cdot 10^3\ \text{ m}^2", "2000"),
        (r"3 \mathrm{~km} / \mathrm{s}^{-2}", "3"),
    ],
)
def test_numbers_are_read(text, value):
    assert read_number(text) == Decimal(value)


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "e9", "1e", "1e1000", "2e x", "1 2", "1,000", "nan", "0x1"),
        r"10^{3} \cdot 2",
        r"5 \text{ or } 6",
        "3//",
        r"5 \text{ cm } x",
        "\N{ARABIC-INDIC DIGIT SEVEN}",
        *("1" * 100_000 + "x", "1" + r"\," * 50_000 + "x", "$" * 100_000),
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_other_texts_are_no_numbers(text):
    assert read_number(text) is None


@pytest.mark.parametrize(
    "a, b, same",
    [
        ("0.3333333", "0.33333333", True),
        ("0.0000672", "0.0000673", False),
        ("1000000", "1000001", False),
        ("2.5000001", "2.5", False),
        ("2.5000001", "2.500000", False),
        ("0.666667", "0.66666667", True),
        ("0.666666", "0.66666667", True),
        ("0.666668", "0.66666667", False),
        ("0.6667", "0.66666667", False),
        ("1234567", "1234567.1", False),
        ("1e-20", "0", False),
        ("0.0", "0", True),
    ],
)
def test_numbers_are_the_same_up_to_rounding(a, b, same):
    assert same_number(Decimal(a), Decimal(b)) is same


@pytest.mark.parametrize(
    "response, answer, correct",
    [
        (r"\boxed{4}", "4", True),
        (r"\boxed{4}", r"\boxed{4}", True),
        ("Answer: 4", "4", True),
        ("answer : $4$\n", "4", True),
        ("Answer: 5\nAnswer: 4", "4", True),
        (r"\boxed{4}, no. Answer: 5", "4", True),  # a box counts more than a line
        (r"\boxed{5} Answer: 4", "4", False),
        (r"\boxed{1} \boxed{4", "1", True),
        ("4", "4", False),
        (r"\boxed{5}", "4", False),
        (r"\boxed{0.5}", r"\frac{1}{2}", False),  # text, not mathematics
    ],
)
def test_dapo(response, answer, correct):
    score = judge(DAPORule(), response, answer)
    assert score.correct is correct and score.reward == (1.0 if correct else -1.0)


def test_dapo_reads_the_last_300_characters():
    box = r"\boxed{4}"
    assert judge(DAPORule(), box + "." * (300 - len(box))).correct
    assert judge(DAPORule(), box + "." * (301 - len(box))).extracted is None


@pytest.mark.parametrize(
    "answer, normal",
    [
        ("x = 5", "5"),
        (r"5 \text{ cm}", "5"),
        (r"15\mbox{ cm}^2", "15"),
        (r"90^\circ", "90"),
        (r"45^{\circ}", "45"),
        (r"\$18.90", "18.90"),
        (r"\frac12", r"\frac{1}{2}"),
        (r"\sqrt2", r"\sqrt{2}"),
        ("1,234,567", "1234567"),
        (r"32,\!348", "32348"),
        ("12{,}000", "12000"),
        ("1,2.5", "1,2.5"),
        (r"\text{(B)}", "(B)"),
        (r"\textbf{east}", "east"),
        (r"\boxed{7}", "7"),
        ("the value is $7$ metres", "7"),
        (r"1, \text{and} 2", "12"),  # a quirk of the rule: two numbers look like a long one
    ],
)
def test_dapo_normalises(answer, normal):
    assert normalize(answer) == normal


SOLUTION = "She sold 48/2 = <<48/2=24>>24 clips in May.\nAltogether 48+24 = 72.\n#### 72"


@pytest.mark.parametrize(
    "response, answer, correct",
    [
        ("so\n#### 72", SOLUTION, True),
        ("#### 72.0", "72", True),
        ("#### 72. That is it.", "72", True),
        ("**#### 72**", "72", True),
        ("#### **72**", "72", True),
        ("#### €72!", "72", True),
        ("#### 72%", "72", True),
        ("#### 72kg", "72", True),
        ("#### -$72", "-72", True),
        ("#### 72/5", "72", False),
        ("#### 72 / 5", "72", False),
        ("#### 72:30", "72", False),
        ("#### 72^2", "72", False),
        ("#### 7.2.1", "7.2", False),
        ("#### about 72", "72", False),
        ("#### $1,234.50", "1234.5", True),
        ("#### -3", "-3", True),
        ("#### .5", "0.5", True),
        ("#### 1 #### 72", "72", True),
        ("#### 72 #### 1", "72", False),
        ("72", "72", False),
        ("####", "72", False),
        ("#### nan", "nan", False),
        ("#### inf", "inf", False),
        ("#### 7_2", "72", False),
        ("#### 72e0", "72", False),
        ("#### \N{ARABIC-INDIC DIGIT SEVEN}", "7", False),
        ("#### " + "9" * 101, "9" * 101, False),
        ("#### " + "9" * 10_000_000, "9" * 100, False),
        ("#### " + "9" * 100, "9" * 100, True),
    ],
)
def test_gsm8k(response, answer, correct):
    score = judge(GSM8K(), response, answer)
    assert score.correct is correct and score.reward == float(correct)


@pytest.mark.parametrize(
    "text, matches",
    [
        ("First\nsecond: \\boxed{4}.", True),
        (r"\boxed{4}", False),
        ("no box", False),
        (r"so \boxed{", False),
        (r"so \boxed{}", False),
    ],
)
def test_format_asks_for_reasoning_and_a_box(text, matches):
    score = judge(Format(), text)
    assert score.correct is matches and score.reward == float(matches)


def test_format_takes_the_whole_response():
    assert judge(Format("<think>.*</think>4"), "<think>\n</think>4").correct
    assert not judge(Format("<think>.*</think>4"), "<think>\n</think>4.").correct
    with pytest.raises(ConfigError, match=r"pattern='\(a': missing \)"):
        Format("(a")


@pytest.mark.parametrize("tokens, reward", [(0, 0), (10, 0), (15, -0.5), (20, -1), (99, -1)])
def test_length(tokens, reward):
    score = judge(Length(free=10, limit=20), "", tokens=tokens)
    assert score.reward == reward and score.correct is (reward == 0)


@pytest.mark.parametrize("free, limit", [(-1, 10), (10, 10), (20, 10)])
def test_length_bounds_are_checked(free, limit):
    with pytest.raises(ConfigError, match="expected 0 <= free < limit"):
        Length(free, limit)


def test_weighted():
    reward = Weighted({"exact": Term(2.0, Exact()), "length": Term(0.5, Length(10, 20))})
    right, wrong = judge(reward, r"\boxed{4}", tokens=20), judge(reward, r"\boxed{5}")
    assert right.reward == 1.5 and right.components == {"exact": 1.0, "length": -1.0}
    assert (right.correct, right.extracted, right.reason) == (True, "4", "the same text")
    assert wrong.reward == 0.0 and not wrong.correct
    assert (reward.worst, reward.best) == (-0.5, 2.0)
    assert reward.worst_components == {"exact": 0.0, "length": -1.0}
    with pytest.raises(ConfigError, match="terms is empty"):
        Weighted({})


def test_what_is_punished_most_is_the_worst_of_a_sum():
    reward = Weighted({"exact": Term(1.0, Exact()), "cheat": Term(-2.0, Format("cheat.*"))})
    assert (reward.worst, reward.best) == (-2.0, 1.0)
    assert reward.worst_components == {"exact": 0.0, "cheat": 1.0}
    assert judge(reward, "cheat").reward == reward.worst
    assert judge(reward, r"\boxed{4}").reward == reward.best


def test_a_sum_prepares_all_of_it():
    prepared = []

    class Slow(Exact):
        def prepare(self) -> None:
            prepared.append(self)

    first, second = Slow(), Slow()
    Weighted({"first": Term(1, first), "second": Term(1, second)}).prepare()
    assert prepared == [first, second]


def test_a_sum_is_bounded_if_all_of_it_is():
    assert Weighted({"a": Term(1, Exact()), "b": Term(1, DAPORule())}).bounded
    assert not Weighted({"a": Term(1, Exact()), "b": Term(1, Format())}).bounded


@pytest.mark.parametrize(
    "result, reward, correct",
    [
        ("True", 1.0, True),
        ("False", 0.0, False),
        ("0.25", 0.25, True),
        ("0", 0.0, False),
        ("-2", -2.0, False),
        ("len(response.text) + int(problem.answer)", 7.0, True),
        ("__import__('numpy').bool_(True)", 1.0, True),
        ("__import__('numpy').float32(0.5)", 0.5, True),
        ("Score(0.5, False, 'x')", 0.5, False),
    ],
)
def test_function(user_module, result, reward, correct):
    source = "from stapo_pl.rewards import Score\ndef score(response, problem):\n    return "
    user_module(source + result)
    score = judge(Function("my_rewards.score"), "abc", "4")
    assert (score.reward, score.correct) == (reward, correct)


def test_function_must_return_a_verdict(user_module):
    user_module("def score(response, problem): return 'yes'")
    with pytest.raises(TypeError, match=r"my_rewards.score returned str; expected a Score"):
        judge(Function("my_rewards.score"), "")


@pytest.mark.parametrize(
    "source, path, message",
    [
        ("", "score", "reward.path=score names no module"),
        ("", "no_such_module.score", "importing no_such_module failed with ModuleNotFoundError"),
        ("1/0", "my_rewards.score", "failed with ZeroDivisionError"),
        ("x = 1", "my_rewards.score", "my_rewards has no score"),
        ("score = 1", "my_rewards.score", "reward.path=my_rewards.score is a int"),
    ],
)
def test_function_is_checked_when_built(user_module, source, path, message):
    user_module(source)
    with pytest.raises(ConfigError, match=message + r".*expected the import path of a function"):
        Function(path)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, id=p.stem, marks=[pytest.mark.gym] * (p.stem == "reasoning_gym"))
        for p in YAMLS
    ],
)
def test_yamls_list_every_argument_build_and_pickle(path, user_module):
    user_module("def score(response, problem): return 4 if '4' in response.text else 0")
    config = yaml.safe_load(path.read_text())
    cls = getattr(rewards, config["class_path"].rpartition(".")[2])
    accepted = {} if cls.__init__ is object.__init__ else inspect.signature(cls).parameters
    assert set(config["init_args"]) == set(accepted)
    if path.stem == "function":
        assert config["init_args"]["path"] == "???"  # there is none to fall back to
        config["init_args"]["path"] = "my_rewards.score"
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--reward", type=Reward)
    reward = parser.instantiate(parser.parse_object({"reward": config})).reward
    assert type(reward) is cls
    again = pickle.loads(pickle.dumps(reward))
    text = "so #### 4 \\boxed{4}"
    assert judge(again, text, tokens=9) == judge(reward, text, tokens=9)
    assert judge(again, text).correct and again.worst == reward.worst


def test_every_reward_has_a_yaml():
    classes = {cls.__name__ for cls in Reward.__subclasses__() if "stapo_pl" in cls.__module__}
    named = {yaml.safe_load(path.read_text())["class_path"].rpartition(".")[2] for path in YAMLS}
    assert named == classes


def test_a_pickled_function_is_its_path(user_module):
    user_module("score = lambda response, problem: True")
    reward = Function("my_rewards.score")
    assert vars(pickle.loads(pickle.dumps(reward))) == {"path": "my_rewards.score"}


def test_the_shown_sum_is_math_and_a_tenth_of_format():
    config = yaml.safe_load((YAMLS[0].parent / "weighted.yaml").read_text())
    terms = config["init_args"]["terms"]
    assert {name: term["weight"] for name, term in terms.items()} == {"math": 1.0, "format": 0.1}
    pattern = terms["format"]["reward"]["init_args"]["pattern"]
    assert re.compile(pattern, re.DOTALL) == Format().pattern
