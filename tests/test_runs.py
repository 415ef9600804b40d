"""Which run a command continues, and which it refuses to."""

from __future__ import annotations

import pytest
from conftest import CONFIGS
from test_fit import FEW_PROBLEMS, SMALL, fit, make

from stapo_pl.cli import main
from stapo_pl.errors import ConfigError
from stapo_pl.overrides import expand

SHORT = ("trainer.max_epochs=1", "data.prompts_per_rollout=4")


def test_last_is_the_newest_run_that_has_a_checkpoint(tmp_path):
    first = fit(make(tmp_path, *SHORT))
    second = make(tmp_path, *SHORT)
    assert (first.folder.name, second.folder.name) == ("version_0", "version_1")
    assert not second.folder.exists()  # made when the run starts, not when it is configured
    second.folder.mkdir()  # as if it had been killed before its first checkpoint
    again = make(tmp_path, *SHORT, "ckpt_path=last")
    assert again.folder == first.folder and again.ckpt_path.parent.parent == again.folder


def test_a_longer_run_goes_on_and_a_complete_one_says_so(tmp_path, capsys):
    fit(make(tmp_path, *SHORT))
    longer = fit(make(tmp_path, *SHORT[1:], "trainer.max_epochs=2", "ckpt_path=last"))
    assert longer.trainer.global_step == 2
    capsys.readouterr()
    fit(make(tmp_path, *SHORT, "trainer.max_epochs=2", "ckpt_path=last"))
    output = capsys.readouterr().out
    assert "the run is complete: it has had 2 rollouts" in output and "2 optimizer steps" in output


@pytest.mark.parametrize(
    "word, message",
    [
        ("objective.tau_p=0.5", "was started with model.objective.init_args.tau_p=0.002, not 0.5"),
        ("data.group_size=8", "was started with data.group_size=4, not 8"),
        ("objective=grpo", "was started with model.objective"),
        ("model.optimizer.lr=1", "was started with model.optimizer.init_args.lr=0.0004, not 1"),
        ("seed_everything=7", "was started with seed_everything=0, not 7"),
    ],
)
def test_another_run_is_not_continued(tmp_path, word, message):
    fit(make(tmp_path, *SHORT, "run.name=mine"))
    with pytest.raises(ConfigError, match=message):
        make(tmp_path, *SHORT, "run.name=mine", "ckpt_path=last", word)
    # Named outright, a checkpoint may be continued in another way.
    checkpoint = next(tmp_path.rglob("*.ckpt"))
    assert make(tmp_path, *SHORT, word, f"ckpt_path={checkpoint}").ckpt_path == checkpoint


def test_a_run_cannot_be_made_shorter(tmp_path, capsys):
    fit(make(tmp_path, *SHORT, "trainer.max_epochs=3"))
    words = [*SMALL, *FEW_PROBLEMS, *SHORT, f"run.logs={tmp_path}", "ckpt_path=last"]
    with pytest.raises(SystemExit) as stopped:
        main(expand(words, CONFIGS), CONFIGS)
    assert stopped.value.code == 2 and "Traceback" not in capsys.readouterr().err


def test_what_does_not_change_the_training_may_change(tmp_path):
    first = fit(make(tmp_path, *SHORT))
    words = (
        "ckpt_path=last", "data.validation.samples=3", "sampler=transformers",
        "sampler.batch_size=8", "model.on_sampler_gap=raise",
    )  # fmt: skip
    assert make(tmp_path, *SHORT, *words).folder == first.folder
