"""Tasks and rewards."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from datasets import Dataset

from stapo_pl.errors import ConfigError
from stapo_pl.loading import load_tokenizer
from stapo_pl.policy import shipped_policy
from stapo_pl.prompts import tokenize
from stapo_pl.rewards.boxed import last_boxed
from stapo_pl.rewards.exact import exact_boxed
from stapo_pl.rewards.math import math_boxed
from stapo_pl.tasks import Arithmetic, Problem, VerlParquet


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
        (r"\boxed{" * 30_000, None),
    ],
)
def test_last_boxed(text, content):
    assert last_boxed(text) == content


def test_exact_boxed():
    assert exact_boxed(r"so \boxed{59}.", "59").reward == 1.0
    assert not exact_boxed(r"so \boxed{59.0}", "59").correct
    assert exact_boxed("59", "59").extracted is None


@pytest.mark.parametrize(
    "response, answer, correct",
    [
        (r"\boxed{\frac{1}{2}}", "0.5", True),
        (r"\boxed{204}", r"\boxed{204}", True),
        (r"\boxed{\left(3,\frac{\pi}{2}\right)}", r"\left( 3, \frac{\pi}{2} \right)", True),
        (r"\boxed{205}", "204", False),
        (r"\boxed{\frac{1}{}", "204", False),
        ("204", "204", False),
    ],
)
def test_math_boxed(response, answer, correct):
    assert math_boxed(response, answer).correct is correct


def test_arithmetic_sets_are_deterministic_and_disjoint():
    task, again = Arithmetic(), Arithmetic()
    train, validation = task.train_problems(), task.validation_problems()
    assert train == again.train_problems() and validation == again.validation_problems()
    assert len(train) == 16384 and len(validation) == 256
    questions = [{p.messages[0]["content"] for p in problems} for problems in (train, validation)]
    assert not questions[0] & questions[1]


def test_arithmetic_answers_are_right():
    task = Arithmetic(train_size=500)
    for problem in task.train_problems():
        expression = problem.messages[0]["content"].removeprefix("Compute ").removesuffix(".")
        assert eval(expression) == int(problem.answer)
        assert task.score(rf"... \boxed{{{problem.answer}}}.", problem).correct


def test_shipped_tokenizer_encodes_any_text_and_keeps_digits_apart():
    tokenizer = load_tokenizer(str(shipped_policy()))
    for text in ("Compute 12+34.", "ünïcode 漢字 \N{GRINNING FACE}\n\ttab", r"\frac{1}{2}"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("2468")) == 4
    assert len(tokenizer.encode(" answer")) == 1


def test_shipped_policy_is_small():
    size = sum(file.stat().st_size for file in shipped_policy().rglob("*"))
    assert size <= 4 * 2**20


def test_long_prompts_are_an_error_or_dropped_and_counted():
    tokenizer = load_tokenizer(str(shipped_policy()))
    problems = [Problem([{"role": "user", "content": "1" * n}], "1") for n in (3, 30, 5)]
    with pytest.raises(
        ConfigError, match=r"1 of 3 training prompts are longer .*max_prompt_tokens=10"
    ):
        tokenize(problems, tokenizer, 10, "error", "training")
    prompts, dropped = tokenize(problems, tokenizer, 10, "drop", "training")
    assert dropped == 1 and [len(p.token_ids) for p in prompts] == [3, 5]
    with pytest.raises(ConfigError, match="no training prompt"):
        tokenize(problems, tokenizer, 1, "drop", "training")


def verl_row(content: str, answer: str) -> dict:
    return {
        "prompt": [{"role": "user", "content": content}],
        "reward_model": {"ground_truth": answer, "style": "rule"},
        "data_source": "made",
    }


def test_verl_rows(tmp_path):
    file = tmp_path / "rows.parquet"
    Dataset.from_list([verl_row("1+1?", "2"), verl_row(r"Box it: \boxed{}", "3")]).to_parquet(file)
    task = VerlParquet(str(file), validation_size=1)
    first, second = task.train_problems()
    assert first.messages[0]["content"].endswith(r"put your final answer within \boxed{}.")
    assert second.messages[0]["content"] == r"Box it: \boxed{}"
    assert first.data_source == "made" and len(task.validation_problems()) == 1
    assert task.score(r"\boxed{2}", first).correct


def test_verl_rows_must_be_there(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        VerlParquet(str(tmp_path / "none.parquet"))
    file = tmp_path / "rows.parquet"
    Dataset.from_list([{"question": "1+1?"}]).to_parquet(file)
    with pytest.raises(ConfigError, match="column prompt is missing; it has question"):
        VerlParquet(str(file)).train_problems()


@pytest.mark.parametrize("broken", [{"prompt": "1+1?"}, {"reward_model": {"style": "rule"}}])
def test_a_broken_verl_row_is_named(tmp_path, broken):
    file = tmp_path / "rows.parquet"
    Dataset.from_list([verl_row("1+1?", "2") | broken]).to_parquet(file)
    with pytest.raises(ConfigError, match="row 0: expected prompt as chat messages"):
        VerlParquet(str(file)).train_problems()
    file.write_text("no parquet")
    with pytest.raises(ConfigError, match="not a parquet file"):
        VerlParquet(str(file)).train_problems()


def test_benchmark_rows():
    folder = os.environ.get("STAPO_BENCHMARKS")
    if folder is None:
        pytest.skip("STAPO_BENCHMARKS names no folder with the benchmark files")
    problems = VerlParquet(str(Path(folder) / "MATH-500.parquet")).train_problems()
    assert len(problems) == 500
    assert all(math_boxed(rf"\boxed{{{p.answer}}}", p.answer).correct for p in problems[:20])
