"""What the README shows trains."""

from __future__ import annotations

import re
import shlex

from stapo_pl.cli import conformance
from support.fitting import fit, make, scalars
from support.places import ROOT


def test_a_reward_of_ones_own_trains(shown, tmp_path):
    shown("my_rewards")
    curves = scalars(fit(make(tmp_path, "reward=function", "reward.path=my_rewards.score")))
    accuracy, reward = (curves[f"reward/{name}"][0][1] for name in ("accuracy", "mean"))
    assert accuracy - 0.1 < reward < accuracy


def test_an_objective_of_ones_own_trains(own_objective, tmp_path):
    cli = fit(make(tmp_path, "objective=my_objectives.CISPO", "objective.clip_high=0.3"))
    assert isinstance(cli.model.objective, own_objective.CISPO)
    assert cli.model.objective.clip_high == 0.3 and cli.trainer.global_step == 4


def test_the_command_that_checks_it_says_that_it_equals_verl(own_objective, capsys):
    readme = (ROOT / "README.md").read_text()
    (shown,) = re.findall(r"^    python scripts/conformance\.py (.*)$", readme, re.MULTILINE)
    conformance.main(shlex.split(shown, comments=True))
    head, _, *table = capsys.readouterr().out.splitlines()
    assert head.endswith("cispo(low=0.2,high=0.28) token-mean")
    assert len(table) == 9 and all("| passed |" in row for row in table[2:])


def test_a_task_of_ones_own_trains(shown, tmp_path):
    tasks = shown("my_tasks")
    cli = fit(make(tmp_path, "task=my_tasks.Fourfold", "trainer.max_epochs=1", task=()))
    assert isinstance(cli.datamodule.task, tasks.Fourfold) and cli.trainer.global_step == 2


def test_parts_of_ones_own_combine_and_a_listener_hears(shown, tmp_path, capsys):
    parts, _ = shown("my_parts"), shown("my_callbacks")
    words = ("selection=my_parts.Unsure", "selection.below=0.9", "correction=my_parts.Near")
    words = (*words, "token_advantage=my_parts.Surprise")
    words = ["objective=grpo", *(f"objective.{word}" for word in words), "trainer.max_epochs=1"]
    cli = fit(make(tmp_path, *words, "trainer.callbacks+=my_callbacks.Silenced"))
    objective, curves = cli.model.objective, scalars(cli)
    assert objective.selection == parts.Unsure(below=0.9)
    assert isinstance(objective.token_advantage, parts.Surprise)
    assert 0.5 < curves["policy/silenced_fraction"][0][1] < 1
    assert curves["policy/correction_weight"][0][1] == 1
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("['")]
    assert len(printed) == 2
