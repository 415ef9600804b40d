"""Two evaluations of the same problems: the paired bootstrap, and what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Problem, Score
from stapo_pl.evaluation import figures
from stapo_pl.evaluation.figures import bootstrap_interval
from stapo_pl.evaluation.records import write_problems, write_scores
from stapo_pl.insight.evaluations import compare_evaluations, only_in_one, paired_difference

TASK = {"class_path": "stapo_pl.tasks.Arithmetic", "init_args": {"reward": None}}


def evaluation(
    folder: Path, correct_PG: list[list[bool]], task=TASK, answers=None, name="sums", label=""
) -> Path:
    """Writes what an evaluation of one benchmark leaves behind."""
    inside = folder / name / "T1-p1"
    answers = answers or [str(number) for number in range(len(correct_PG))]
    problems = [Problem([{"role": "user", "content": f"{a}?"}], a, place=str(folder))
                for a in answers]  # fmt: skip
    write_problems(inside / "problems.jsonl", problems)
    k = len(correct_PG[0])
    (inside / "benchmark.json").write_text(json.dumps({"task": task, "samples": k}))
    places = [(p, g) for p in range(len(correct_PG)) for g in range(k)]
    scores = [Score(float(correct_PG[p][g]), correct_PG[p][g], "x") for p, g in places]
    write_scores(inside / f"scores{label}.jsonl", places, scores)
    return folder


def test_the_interval_of_ten_problems_is_that_of_the_binomial():
    """5 of 10 problems got better: a draw's difference is Binomial(10, 1/2) / 10, exactly."""
    found = paired_difference([0.0] * 10, [1.0] * 5 + [0.0] * 5)
    assert (found.first, found.second) == (0.0, 0.5)
    # P(at most 1) = 0.011 and P(at most 2) = 0.055, so the 2.5 % quantile is 2 of 10.
    assert found.interval == pytest.approx((0.2, 0.8))


def test_problems_that_are_hard_for_both_models_do_not_widen_the_interval():
    hard = np.repeat([0.0, 1.0], 50)
    found = paired_difference(0.9 * hard, 0.9 * hard + 0.1)
    assert found.interval == pytest.approx((0.1, 0.1))


def test_the_interval_changes_sign_with_the_order():
    rng = np.random.default_rng(0)
    first_P, second_P = rng.random(40), rng.random(40)
    low, high = paired_difference(first_P, second_P).interval
    assert paired_difference(second_P, first_P).interval == pytest.approx((-high, -low))
    assert low < second_P.mean() - first_P.mean() < high


def test_the_same_evaluations_have_the_same_interval_every_time():
    rng = np.random.default_rng(0)
    first_P, second_P = rng.random(40), rng.random(40)
    np.random.seed(1)
    found = paired_difference(first_P, second_P)
    np.random.seed(2)
    assert paired_difference(first_P, second_P) == found
    difference = second_P - first_P
    assert found.interval != bootstrap_interval(difference, seed=1)


def test_the_bootstrap_draws_the_same_in_blocks_of_any_size(monkeypatch):
    values = np.random.default_rng(0).random(30)
    whole = bootstrap_interval(values)
    monkeypatch.setattr(figures, "_NUMBERS_AT_ONCE", 7 * 30)
    assert bootstrap_interval(values) == pytest.approx(whole, abs=1e-12)
    monkeypatch.setattr(figures, "_NUMBERS_AT_ONCE", 1)
    assert bootstrap_interval(values, draws=100) == pytest.approx(
        loop(values, draws=100), abs=1e-12
    )


def loop(values, draws: int) -> tuple[float, float]:
    """The bootstrap, one draw after another."""
    rng = np.random.default_rng(0)
    means = [rng.choice(values, len(values)).mean() for _ in range(draws)]
    return tuple(np.quantile(means, [0.025, 0.975]))


def test_the_table_shows_both_accuracies_and_the_difference(tmp_path):
    before = evaluation(tmp_path / "before", [[False, False], [True, False]] * 5)
    after = evaluation(tmp_path / "after", [[True, True, True, False]] * 10)
    row = compare_evaluations(before, after).splitlines()[-1].replace(" ", "").split("|")[1:-1]
    assert row[:2] == ["sums", "T1-p1"] and row[3:7] == ["10", "25.00", "75.00", "+50.00"]


def test_other_problems_are_refused(tmp_path):
    one = evaluation(tmp_path / "one", [[True]] * 3)
    with pytest.raises(ConfigError, match="3 and 2 problems"):
        compare_evaluations(one, evaluation(tmp_path / "fewer", [[True]] * 2))
    other = evaluation(tmp_path / "other", [[True]] * 3, answers=["0", "7", "2"])
    with pytest.raises(ConfigError, match="1 of 3 problems differ, the first is number 1"):
        compare_evaluations(one, other)
    with pytest.raises(ConfigError, match="no benchmark and decoding in common"):
        compare_evaluations(one, evaluation(tmp_path / "named", [[True]] * 3, name="else"))


def test_other_rewards_of_the_task_are_refused_and_the_same_named_ones_are_not(tmp_path):
    strict = {**TASK, "init_args": {"reward": {"class_path": "stapo_pl.rewards.Exact"}}}
    one = evaluation(tmp_path / "one", [[True]])
    other = evaluation(tmp_path / "other", [[True]], task=strict)
    with pytest.raises(ConfigError, match="judged by different rewards"):
        compare_evaluations(one, other)
    for folder, task in ((one, TASK), (other, strict)):
        (folder / "sums/T1-p1/scores.jsonl").unlink()
        evaluation(folder, [[True]], task=task, label="-dapo")
    assert "dapo" in compare_evaluations(one, other)


def test_what_only_one_of_them_has_is_named(tmp_path):
    one = evaluation(tmp_path / "one", [[True]])
    other = evaluation(evaluation(tmp_path / "other", [[True]]), [[True]], name="more")
    assert only_in_one(one, other) == [Path("more/T1-p1/scores.jsonl")]


def test_scores_that_do_not_fit_the_samples_are_refused(tmp_path):
    one, other = (evaluation(tmp_path / name, [[True, True]]) for name in ("one", "other"))
    file = other / "sums/T1-p1/scores.jsonl"
    file.write_text(file.read_text().splitlines()[0] + "\n")
    with pytest.raises(ConfigError, match="does not hold all scores"):
        compare_evaluations(one, other)
