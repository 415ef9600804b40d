"""What the README shows works."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
from conftest import CONFIGS
from test_fit import fit, make, scalars
from test_golden import CASES, check_loss

from stapo_pl.cli.grammar import EVALUATE, expand

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """Imports a module that the README shows."""
    names = []

    def load(name: str):
        (code,) = re.findall(rf"```python\n# {name}.py\n(.*?)```", README, re.DOTALL)
        assert code.count("\n") < 20
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        names.append(name)
        return importlib.import_module(name)

    yield load
    for name in names:
        del sys.modules[name]


@pytest.fixture
def own_objective(shown):
    return shown("my_objectives")


def test_a_reward_of_ones_own_trains(shown, tmp_path):
    shown("my_rewards")
    curves = scalars(fit(make(tmp_path, "reward=function", "reward.path=my_rewards.score")))
    accuracy, reward = (curves[f"reward/{name}"][0][1] for name in ("accuracy", "mean"))
    assert accuracy - 0.1 < reward < accuracy


def test_an_objective_of_ones_own_trains(own_objective, tmp_path):
    cli = fit(make(tmp_path, "objective=my_objectives.CISPO", "objective.clip_high=0.3"))
    assert isinstance(cli.model.objective, own_objective.CISPO)
    assert cli.model.objective.clip_high == 0.3 and cli.trainer.global_step == 4


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
