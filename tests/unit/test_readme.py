"""What the README and those in the folders show is there, and their words are understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from statistics import median

import pytest

import stapo_pl
from stapo_pl.cli.combinations import combinations
from stapo_pl.cli.grammar import EVALUATE, FIT, expand
from support.family import table
from support.places import CONFIGS, DOCUMENTS, ROOT, TESTS
from support.verl import CASES, check_loss

README = (ROOT / "README.md").read_text()
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


def anchors(document: Path) -> set[str]:
    """What a link may name behind `#`: the headings."""
    prose = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"seed{case['seed']}")
def test_the_objective_shown_is_that_of_verl(own_objective, case):
    check_loss(case, own_objective.CISPO(), "cispo(low=0.2,high=0.28) token-mean")


def test_it_opens_with_the_two_commands():
    first, second = re.findall(r"^    (pip install .*)$", README, re.MULTILINE)[:2]
    assert first == "pip install -e . && python scripts/fit.py objective=stapo"
    assert second == 'pip install -e ".[test]" && pytest'


def test_it_is_short_and_shows_the_loop_first():
    lines = README.splitlines()
    assert len(lines) <= 180
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []
    assert "stapo_pl/training/loop.py" in "\n".join(lines[:40])


def test_the_python_shown_is_that_of_the_package():
    (shown,) = re.findall(r"^```python\n(from functools .*?)```", README, re.DOTALL | re.MULTILINE)
    assert "".join(shown.split()) in "".join(stapo_pl.__doc__.split())


def test_the_rooms_are_those_of_the_package():
    text = (ROOT / "stapo_pl" / "README.md").read_text()
    shown = re.findall(r"^\| \[(\w+)\]\(\1\) \|", text, re.MULTILINE)
    rooms = {path.parent.name for path in (ROOT / "stapo_pl").glob("*/__init__.py")}
    assert {*shown} == rooms and len(shown) == len(rooms)


def test_the_table_of_objectives_is_what_is_tested():
    assert table() in (ROOT / "stapo_pl" / "README.md").read_text()
    lengths = [
        len(path.read_text().splitlines())
        for path in (ROOT / "stapo_pl" / "objectives").glob("*.py")
    ]
    assert median(lengths) < 60


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_links_lead_somewhere(document):
    text = document.read_text()
    for link in re.findall(r"\]\((?!http)([^)\s]+)\)", text):
        file, _, anchor = link.partition("#")
        target = document.parent / file if file else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
    tests = {path.name for path in TESTS.rglob("test_*.py")}
    assert {*re.findall(r"\btest_\w+\.py", text)} <= tests


def test_the_sweeps_shown_are_understood():
    texts = "\n".join(document.read_text() for document in DOCUMENTS).replace("\\\n", "")
    shown = re.findall(r"^    python scripts/sweep\.py (.*)$", texts, re.MULTILINE)
    assert len(shown) > 3
    for words in shown:
        given = [word for word in shlex.split(words, comments=True) if "=" in word]
        assert len(combinations(given, "logs")) > 1


@pytest.mark.parametrize(("command", "grammar"), [("fit", FIT), ("evaluate", EVALUATE)])
def test_the_words_shown_are_understood(command, grammar):
    texts = "\n".join(document.read_text() for document in DOCUMENTS).replace("\\\n", "")
    shown = re.findall(
        rf"^    (?:python scripts/{command}\.py|stapo {command}) (.*)$", texts, re.MULTILINE
    )
    assert len(shown) > 4
    for words in shown:
        assert expand(shlex.split(words, comments=True), CONFIGS, grammar)
