"""A run from Python is the one that the command makes."""

from __future__ import annotations

import csv
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from functools import partial

import lightning as L
import pytest
import torch

import stapo_pl
from stapo_pl import STAPO, Arithmetic, PolicyModule, RolloutDataModule, RolloutTrainer, Run
from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.export import export
from stapo_pl.policy.loading import load_policy
from stapo_pl.policy.lora import LoRA
from stapo_pl.training.callbacks import Alarms, RolloutCheckpoint, RunProgress
from stapo_pl.training.events import RolloutCollected
from stapo_pl.training.loggers import CSV
from stapo_pl.training.parts import RunCallback
from stapo_pl.training.strategy import FSDP
from support.fitting import read_scalars

OWN = {"RunProgress", "RolloutLog", "RunSummary", "Alarms", "RolloutCheckpoint", "SamplerCallback"}


def shown_lines(**replaced: str) -> str:
    """The lines that the package's docstring shows."""
    lines = textwrap.dedent(stapo_pl.__doc__.partition(":\n\n")[2])
    for old, new in replaced.items():
        assert old in lines
        lines = lines.replace(old, new)
    return lines


def names(trainer: L.Trainer) -> list[str]:
    return [type(callback).__name__ for callback in trainer.callbacks]


def test_the_lines_shown_train_and_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = "prompts_per_rollout=4, prompts_per_mini_batch=4, group_size=2, max_new_tokens"
    task = {"Arithmetic(),": "Arithmetic(train_size=16, validation_size=4),"}
    lines = shown_lines(**task, max_new_tokens=small)
    exec(lines.replace("max_epochs=75", "max_epochs=1"), {})
    folder = tmp_path / "logs" / "mine" / "version_0"
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["rollout-00000.ckpt"]
    assert "val/accuracy" in capsys.readouterr().out
    longer = lines.replace("max_epochs=75", "max_epochs=2")
    exec(longer.replace("fit(module, data)", "fit(module, data, ckpt_path='last')"), {})
    assert [step for step, _ in read_scalars(folder)["policy/loss"]] == [0, 1]
    assert not folder.with_name("version_1").exists()


def parts(train_size: int = 16, max_prompt_tokens: int = 32) -> dict:
    """A module with adapters and a data module, by their names in `fit`."""
    sizes = {"prompts_per_rollout": 4, "prompts_per_mini_batch": 4, "group_size": 2}
    task = Arithmetic(train_size=train_size, validation_size=4)
    tokens = {"max_prompt_tokens": max_prompt_tokens, "max_new_tokens": 48}
    return {
        "model": PolicyModule(STAPO(), partial(torch.optim.AdamW, lr=1e-2), lora=LoRA(rank=2)),
        "datamodule": RolloutDataModule(task, **sizes, **tokens),
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trainer after its fit, and what it has trained."""
    trainer = RolloutTrainer(max_epochs=1, run=Run("mine", logs=str(tmp_path_factory.mktemp("l"))))
    trainer.fit(**(made := parts()))
    return trainer, made


def test_a_trained_policy_is_measured_and_exported(trained, tmp_path):
    trainer, made = trained
    (measured,) = trainer.validate(**made, verbose=False)
    assert {"val/accuracy", "val/accuracy_greedy"} <= measured.keys()
    (checkpoint,) = trainer.folder.glob("checkpoints/*.ckpt")
    export(checkpoint, tmp_path / "model")
    exported = dict(load_policy(str(tmp_path / "model")).named_weights())
    for name, weight in made["model"].policy.named_weights():
        assert torch.equal(exported[name], weight), name
    with pytest.raises(ConfigError, match="this trainer has a run folder"):
        trainer.fit(**made)
    # Other parts, and the policy of a checkpoint instead of theirs.
    for given in (checkpoint, "last"):
        (again,) = trainer.validate(**parts(train_size=17), ckpt_path=given, verbose=False)
        assert again == measured
    with pytest.raises(ConfigError, match="no such checkpoint"):
        trainer.validate(**made, ckpt_path=tmp_path / "none.ckpt")


def test_a_policy_is_measured_before_it_is_trained(trained):
    trainer = RolloutTrainer(run=replace(trained[0].run, name="measured"))
    (measured,) = trainer.validate(**parts(), verbose=False)
    ((_, value),) = read_scalars(trainer.folder)["val/accuracy"]
    assert value == measured["val/accuracy"]


def test_random_numbers_are_those_of_the_seed_of_the_data(trained):
    """New adapters too, whatever was drawn before."""
    torch.manual_seed(7)
    trainer = RolloutTrainer(max_epochs=1, run=replace(trained[0].run, name="again"))
    trainer.fit(**(again := parts()))
    weights = again["model"].policy.state_dict()
    for name, weight in trained[1]["model"].policy.state_dict().items():
        assert torch.equal(weights[name], weight), name


def test_a_named_checkpoint_goes_on_with_other_data_and_last_does_not(trained):
    trainer = RolloutTrainer(max_epochs=2, run=trained[0].run)
    with pytest.raises(ConfigError, match="ckpt_path=last: the training prompts"):
        trainer.fit(**parts(train_size=17), ckpt_path="last")
    trainer = RolloutTrainer(max_epochs=2, run=trained[0].run)
    (checkpoint,) = trainer.run.root(None, None, 0).glob("version_0/checkpoints/*.ckpt")
    with pytest.warns(UserWarning, match="going on with the new ones"):
        trainer.fit(**parts(train_size=17), ckpt_path=checkpoint)
    assert trainer.global_step == 2 and trainer.folder == trained[0].folder


def test_a_start_that_fails_leaves_nothing_and_may_be_made_again(tmp_path):
    trainer = RolloutTrainer(max_epochs=1, run=Run("mine", logs=str(tmp_path)))
    with pytest.raises(ConfigError):
        trainer.fit(**parts(max_prompt_tokens=3))
    assert not [*tmp_path.iterdir()] and trainer.folder is None


def test_a_job_that_is_started_again_goes_on_with_each_of_its_runs(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    for name in ("one", "two"):
        RolloutTrainer(max_epochs=1, run=Run(name, logs=str(tmp_path))).fit(**parts())
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    trainer = RolloutTrainer(run=Run("one", logs=str(tmp_path)))
    trainer.validate(**parts(), verbose=False)
    assert trainer.folder.name == "version_1"
    trainer = RolloutTrainer(max_epochs=2, run=Run("one", logs=str(tmp_path)))
    trainer.fit(**parts())
    assert trainer.global_step == 2 and trainer.folder == tmp_path / "one" / "version_0"


def test_a_listener_s_time_is_in_the_throughput_and_in_no_other_curve(tmp_path):
    class Slow(RunCallback):
        def connect(self, parts) -> None:
            parts.events.listen(RolloutCollected, lambda event: time.sleep(1))

    run = Run("slow", logs=str(tmp_path))
    trainer = RolloutTrainer(max_epochs=1, run=run, callbacks=[Slow()])
    trainer.fit(**parts())
    curves = {name: points[0][1] for name, points in read_scalars(trainer.folder).items()}
    seconds = curves["rollout/samples"] / curves["throughput/samples_per_s"]
    assert seconds > 1 + sum(curves[f"time/{part}_s"] for part in ("rollout", "score", "update"))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"max_steps": 1}, "max_steps=1 is not supported"),
        ({"limit_train_batches": 2}, "limit_train_batches=2 is not supported"),
        ({"fast_dev_run": True}, "fast_dev_run=True is not supported"),
        ({"max_epochs": 0}, "max_epochs must be at least 1"),
        ({"gradient_clip_val": -1.0}, "gradient_clip_val must not be negative"),
        ({"strategy": "deepspeed"}, "strategy=deepspeed is not supported"),
        ({"strategy": FSDP(), "precision": "64-true"}, "sharded weights are fp32"),
        ({"without": ["Alarmz"]}, r"without=\['Alarmz'\]: there are RunProgress"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        RolloutTrainer(accelerator="cpu", **settings)


def test_the_package_names_what_it_has_and_imports_nothing_heavy():
    assert all(getattr(stapo_pl, name).__name__ == name for name in stapo_pl.__all__)
    assert {*stapo_pl.__all__} == {*stapo_pl._MODULES}
    code = "import sys, stapo_pl; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        stapo_pl.Nothing  # noqa: B018


def test_callbacks_of_the_project_are_there_unless_given_or_left_out():
    assert {*names(RolloutTrainer())} >= OWN
    mine = RolloutCheckpoint(every_n_rollouts=1)
    trainer = RolloutTrainer(callbacks=[mine], without=["Alarms"], enable_progress_bar=False)
    assert trainer.checkpoint_callbacks == [mine]
    assert not {"Alarms", "RunProgress"} & {*names(trainer)}
    assert names(RolloutTrainer(callbacks=RunProgress())).count("RunProgress") == 1
    trainer = RolloutTrainer(enable_checkpointing=False, without=["RunProgress"], logger=False)
    assert not trainer.checkpoint_callbacks and trainer.progress_bar_callback is None
    assert not trainer.loggers
    trainer = RolloutTrainer(run=Run(checkpoint_every=3, checkpoint_keep=2))
    (saves,) = trainer.checkpoint_callbacks
    assert (saves.every_n_rollouts, saves.save_top_k) == (3, 2)
    assert not isinstance(trainer.callbacks[0], Alarms)


def test_a_table_of_curves_goes_on_where_the_run_does(tmp_path):
    def rows() -> list[dict[str, str]]:
        with (tmp_path / "metrics.csv").open() as file:
            return list(csv.DictReader(file))

    def log(logger: CSV, step: int, **values: float) -> None:
        logger.log_metrics(values, step)
        logger.save()

    first = CSV()
    first.place(tmp_path, None)
    for step in range(3):
        log(first, step, loss=step)
    log(first, 2, reward=1.0)
    assert [row["step"] for row in rows()] == ["0", "1", "2", "2"] and rows()[3]["loss"] == ""
    again = CSV()
    again.place(tmp_path, 2)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("1")  # the run was killed while it wrote a row of step 12
    assert len(rows()) == 5  # a run that is refused leaves the table as it was
    log(again, 2, loss=7.0)
    log(again, 2, entropy=1.0)
    assert [row["step"] for row in rows()] == ["0", "1", "2", "2"]
    assert [row["loss"] for row in rows()] == ["0", "1", "7.0", ""]
