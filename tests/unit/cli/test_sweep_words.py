"""The words of a sweep: which of them are axes, and which runs they ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from stapo_pl.cli.combinations import combinations, values_of
from stapo_pl.core.errors import ConfigError


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("objective=grpo", ["grpo"]),
        ("objective=grpo,stapo", ["grpo", "stapo"]),
        ("logger=[csv,tensorboard]", ["[csv,tensorboard]"]),
        ("data.stop_token_ids=[1,2],[]", ["[1,2]", "[]"]),
        ("model.lora={rank: 4, alpha: 8},null", ["{rank: 4, alpha: 8}", "null"]),
        ("task.template=a=b,c=d", ["a=b", "c=d"]),
    ],
)
def test_commas_outside_of_brackets_and_braces_separate_values(word, values):
    assert values_of(word) == values


@pytest.mark.parametrize("word", ["objective=grpo,", "seed_everything=0,,1", "x=,1"])
def test_a_missing_value_is_refused(word):
    with pytest.raises(ConfigError, match="a value is missing before or after a comma"):
        values_of(word)


def test_every_combination_is_a_run_with_the_other_words():
    words = ["objective=grpo,stapo", "trainer.max_epochs=3", "seed_everything=0,1"]
    found = combinations(words, "my-logs")
    chosen = [(run.chosen["objective"], run.chosen["seed_everything"]) for run in found]
    assert chosen == [("grpo", "0"), ("grpo", "1"), ("stapo", "0"), ("stapo", "1")]
    for run, (objective, seed) in zip(found, chosen, strict=True):
        assert run.logs == Path("my-logs") and run.settings["trainer.max_epochs"] == 3
        assert run.settings["seed_everything"] == int(seed)
        assert run.settings["model.objective"].lower().endswith(f".{objective}")
    assert found[3].name == "objective=stapo seed_everything=1"


def test_words_without_an_axis_are_one_run():
    (run,) = combinations(["objective=grpo", "run.logs=elsewhere"], "logs")
    assert (run.name, run.logs) == ("the run", Path("elsewhere"))


def test_two_combinations_with_the_same_settings_are_refused():
    with pytest.raises(
        ConfigError, match=r"lr=1e-4 and model\.optimizer\.lr=0\.0001 have the same"
    ):
        combinations(["model.optimizer.lr=1e-4,0.0001"], "logs")


def test_wrong_words_are_refused():
    with pytest.raises(ConfigError, match=r"did you mean model\.optimizer\.lr"):
        combinations(["lr=1,2"], "logs")
    with pytest.raises(ConfigError, match=r"lr=high: expected a number"):
        combinations(["model.optimizer.lr=1e-4,high"], "logs")
