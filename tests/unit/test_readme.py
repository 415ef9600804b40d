"""What the README shows works."""

from __future__ import annotations

import re
import shlex

import pytest

from stapo_pl.cli.grammar import EVALUATE, expand
from support.places import CONFIGS, ROOT
from support.verl import CASES, check_loss

README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"seed{case['seed']}")
def test_the_objective_shown_is_that_of_verl(own_objective, case):
    check_loss(case, own_objective.CISPO(), "cispo(low=0.2,high=0.28) token-mean")


def test_it_opens_with_the_two_commands():
    first, second = re.findall(r"^    (pip install .*)$", README, re.MULTILINE)[:2]
    assert first == "pip install -e . && python scripts/fit.py objective=stapo"
    assert second == 'pip install -e ".[test]" && pytest'


def test_the_tree_names_every_file_of_the_package():
    tree = README[README.index("## The code") :]
    files = [p for p in (ROOT / "stapo_pl").rglob("*.py") if p.name != "__init__.py"]
    assert [str(p) for p in files if p.name not in tree] == []


def test_the_words_shown_are_understood():
    shown = re.findall(r"^    python scripts/fit.py (.*)$", README, re.MULTILINE)
    assert len(shown) > 4
    for words in shown:
        assert expand(shlex.split(words, comments=True), CONFIGS)
    shown = re.findall(r"^    python scripts/evaluate.py (.*)$", README, re.MULTILINE)
    assert len(shown) > 3
    for words in shown:
        assert expand(shlex.split(words, comments=True), CONFIGS, EVALUATE)
