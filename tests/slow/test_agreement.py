"""What the rewards say of the answers of six benchmarks, and of edits of them.

Needs the benchmarks' files: STAPO_BENCHMARKS names their folder.
"""

from __future__ import annotations

import re
from collections import Counter

import pytest
from datasets import Dataset

from stapo_pl.core.types import Problem
from stapo_pl.rewards import DAPORule, Math, Response, Reward
from stapo_pl.rewards.answers.boxed import last_boxed
from stapo_pl.rewards.math import _equal
from support.answer_pairs import answer_pairs, perturbed

ROWS = {
    "AIME24": 30,
    "AIME25": 30,
    "AMC23": 40,
    "MATH-500": 500,
    "Minerva": 272,
    "Olympiad-Bench": 674,
}

# Wrong answers that math-verify takes for right ones, and why.
TAKEN_FOR_RIGHT = {
    ("Minerva", r"\frac{1}{3} E_{1}+\frac{2}{3} E_{2}"): "read as 2/3",
    ("Olympiad-Bench", "$N=n$"): "upper case is not read, and n = n is no equation",
}

pytestmark = pytest.mark.slow

# Pairs of an edit that are judged wrongly: blanks in an equation that math-verify cannot read.
MISSED = {"blanks removed": 1, "blanks added": 1}


@pytest.fixture(scope="module")
def answers(benchmark_folder) -> dict[str, list[str]]:
    """The answers of each set, out of their boxes."""
    read = {}
    for name, rows in ROWS.items():
        file = benchmark_folder / f"{name}.parquet"
        assert file.is_file(), f"there is no {file}"
        dataset = Dataset.from_parquet(str(file), keep_in_memory=True)
        golds = [row["ground_truth"] for row in dataset["reward_model"]]
        assert len(golds) == rows, f"{file} has {len(golds)} rows, not {rows}"
        read[name] = [last_boxed(gold) or gold for gold in golds]
    Math().prepare()
    return read


def is_right(reward: Reward, text: str, answer: str) -> bool:
    return reward.score(Response(rf"\boxed{{{text}}}"), Problem([], answer)).correct


def test_every_answer_is_right(answers):
    for name, golds in answers.items():
        assert [gold for gold in golds if not is_right(Math(), gold, gold)] == [], name


def test_every_answer_is_right_without_the_comparison_of_texts(answers):
    for name, golds in answers.items():
        wrong = [gold for gold in golds if not _equal(gold, gold)]
        print(f"{name:14} {len(golds) - len(wrong):4} of {len(golds):4} equal to themselves")
        assert wrong == [], name


def test_perturbed_answers_are_wrong(answers):
    taken = {
        (name, gold)
        for name, golds in answers.items()
        for gold in golds
        if is_right(Math(), perturbed(gold), gold)
    }
    assert taken == TAKEN_FOR_RIGHT.keys()


def test_perturbed_answers_are_wrong_by_dapos_rule(answers):
    golds = [gold for golds in answers.values() for gold in golds]
    taken = [gold for gold in golds if is_right(DAPORule(), perturbed(gold), gold)]
    # Those of which the rule drops the part that was changed: the left side of an equation,
    # what follows the first part between dollar signs, and units.
    assert all(re.search(r".=|[^$]\$.|mbox", gold) for gold in taken)
    assert len(taken) <= 0.015 * len(golds)


def test_agreement(answers):
    pairs = answer_pairs(answers)
    assert pairs == answer_pairs(answers)
    assert len(pairs) >= 300
    assert min(Counter(pair.same for pair in pairs).values()) >= 100
    count, math, dapo, both = Counter(), Counter(), Counter(), Counter()
    for pair in pairs:
        says_math = is_right(Math(), pair.edited, pair.gold)
        says_dapo = is_right(DAPORule(), pair.edited, pair.gold)
        row = (pair.same, pair.edit)
        count[row] += 1
        math[row] += says_math == pair.same
        dapo[row] += says_dapo == pair.same
        both[row] += says_math == says_dapo
    print(f"\n{'edit':34}{'meaning':>8}{'pairs':>7}{'math':>6}{'dapo':>6}{'agree':>7}")
    for same, edit in count:
        row = (same, edit)
        meaning = "kept" if same else "changed"
        print(f"{edit:34}{meaning:>8}{count[row]:7}{math[row]:6}{dapo[row]:6}{both[row]:7}")
    for same, name in ((True, "all that keep"), (False, "all that change")):
        total, right, by_rule, agreed = (
            sum(table[row] for row in table if row[0] is same)
            for table in (count, math, dapo, both)
        )
        print(f"{name:42}{total:7}{right:6}{by_rule:6}{agreed:7}")
    missed = {edit: count[same, edit] - math[same, edit] for same, edit in count}
    assert {edit: number for edit, number in missed.items() if number} == MISSED
    assert sum(dapo.values()) >= 0.6 * len(pairs)
    # A rule that compares texts is rarely too kind.
    changed = [row for row in count if not row[0]]
    assert sum(dapo[row] for row in changed) >= 0.97 * sum(count[row] for row in changed)
