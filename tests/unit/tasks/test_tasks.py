"""Generated tasks."""

from __future__ import annotations

import sys

import pytest

from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.loading import load_tokenizer
from stapo_pl.policy.model import shipped_policy
from stapo_pl.rewards import ReasoningGymScore, Response
from stapo_pl.tasks import Arithmetic, Problem, ReasoningGym


def questions(problems: list[Problem]) -> set[str]:
    return {problem.messages[-1]["content"] for problem in problems}


def test_arithmetic_sets_are_deterministic_and_disjoint():
    task, again = Arithmetic(), Arithmetic()
    train, validation = task.train_problems(), task.validation_problems()
    assert train == again.train_problems() and validation == again.validation_problems()
    assert len(train.problems) == 16384 and len(validation.problems) == 256
    assert not questions(train.problems) & questions(validation.problems)


def test_arithmetic_answers_are_right():
    task = Arithmetic(train_size=500)
    for problem in task.train_problems().problems:
        expression = problem.messages[0]["content"].removeprefix("Compute ").removesuffix(".")
        assert eval(expression) == int(problem.answer)
        assert task.reward.score(Response(rf"... \boxed{{{problem.answer}}}."), problem).correct


def test_shipped_tokenizer_encodes_any_text_and_keeps_digits_apart():
    tokenizer = load_tokenizer(str(shipped_policy()))
    for text in ("Compute 12+34.", "ünïcode 漢字 \N{GRINNING FACE}\n\ttab", r"\frac{1}{2}"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("2468")) == 4
    assert len(tokenizer.encode(" answer")) == 1


def test_shipped_policy_is_small():
    size = sum(file.stat().st_size for file in shipped_policy().rglob("*"))
    assert size <= 4 * 2**20


@pytest.fixture
def gym():
    def make(*names: str, train_size: int = 40, validation_size: int = 10, **kwargs):
        return ReasoningGym(list(names), train_size, validation_size, **kwargs)

    return make


@pytest.mark.gym
def test_reasoning_gym_takes_turns_and_is_deterministic(gym):
    sets = [gym("chain_sum", "leg_counting", seed=seed).train_problems() for seed in (0, 0, 1)]
    assert sets[0] == sets[1] and not questions(sets[0].problems) & questions(sets[2].problems)
    problems = sets[0].problems
    assert [p.data_source for p in problems[:4]] == ["chain_sum", "leg_counting"] * 2
    assert [p.extra["source_dataset"] for p in problems[:2]] == ["chain_sum", "leg_counting"]
    assert all(p.messages[0]["content"].endswith(r"within \boxed{}.") for p in problems)
    assert len(problems) == 40 and problems[0].place.startswith("chain_sum, entry 0 of seed")


@pytest.mark.gym
def test_reasoning_gym_trains_on_no_validation_question(gym):
    """Of the hundred sums of two digits, many are in both draws."""
    config = {"chain_sum": dict(min_terms=2, max_terms=2, min_digits=1, max_digits=1)}
    task = gym("chain_sum", train_size=300, validation_size=60, config=config)
    train, validation = task.train_problems(), task.validation_problems()
    assert not questions(train.problems) & questions(validation.problems)
    assert len(validation.problems) == 60 and 0 < train.filtered < 300
    assert len(train.problems) + train.filtered == 300


@pytest.mark.gym
def test_reasoning_gym_scores_by_the_tasks_own_rule(gym):
    task = gym("countdown", "chain_sum")
    countdown, chain_sum = task.train_problems().problems[:2]
    right = task.reward.score(Response(rf"So \boxed{{ ({countdown.answer}) }}."), countdown)
    assert right.correct and right.reward == 1.0  # another text than the answer's
    near = task.reward.score(Response(r"\boxed{1 + 1}"), countdown)
    assert not near.correct and 0 < near.reward < 1
    answer = rf"\boxed{{1}} \boxed{{{chain_sum.answer}}}"
    assert task.reward.score(Response(answer), chain_sum).correct
    legs = gym("leg_counting").train_problems().problems[0]
    assert task.reward.score(Response(rf"\boxed{{ {legs.answer} }}"), legs).correct
    unboxed = task.reward.score(Response(chain_sum.answer), chain_sum)
    assert (unboxed.reward, unboxed.extracted) == (0.0, None)


@pytest.mark.gym
def test_what_a_reasoning_gym_task_cannot_read_is_wrong(gym, monkeypatch):
    import reasoning_gym

    def refuse(answer, entry):
        raise IndexError

    monkeypatch.setattr(reasoning_gym, "get_score_answer_fn", lambda name: refuse)
    problem = Problem([], "1", extra={"source_dataset": "chain_sum"})
    verdict = ReasoningGymScore().score(Response(r"\boxed{1}"), problem)
    assert not verdict.correct and verdict.reason == "chain_sum cannot read it: IndexError"


@pytest.mark.gym
@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"names": ["chain_sums"]}, "has no task chain_sums; the nearest are chain_sum"),
        ({"names": ["composite"]}, "has no task composite"),
        ({"names": []}, "task.names is empty"),
        ({"names": ["chain_sum"], "config": {"countdown": {}}}, "countdown: not in task.names"),
        (
            {"names": ["chain_sum"], "config": {"chain_sum": {"no": 1}}},
            "task.config.chain_sum=.*no",
        ),
        ({"names": ["chain_sum"], "train_size": 0}, "train_size must be at least 1"),
        ({"names": ["chain_sum"], "template": "box it"}, "expected {problem}"),
    ],
)
def test_reasoning_gym_settings_are_checked(gym, kwargs, message):
    with pytest.raises(ConfigError, match=message):
        ReasoningGym(**kwargs)


def test_a_missing_reasoning_gym_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(ConfigError, match=r'pip install -e "\.\[gym\]"'):
        ReasoningGym(["chain_sum"])
