"""Which run a command continues, and which it refuses to."""

from __future__ import annotations

import resource
import shutil

import lightning as L
import pytest
import torch

from stapo_pl.cli.fit import main
from stapo_pl.cli.grammar import expand
from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.export import export
from stapo_pl.training.trainer import RolloutTrainer
from support.fitting import FEW_PROBLEMS, SMALL, VALIDATED, fit, make, read_scalars
from support.places import CONFIGS

SHORT = ("trainer.max_epochs=1", "data.prompts_per_rollout=4", "data.max_new_tokens=16")


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A run of one rollout that is called `mine`, which no test continues."""
    return fit(make(tmp_path_factory.mktemp("logs"), *SHORT, "run.name=mine"))


def another(mine, *words: str):
    """A start of the same run in the folder of its logs, with other words."""
    return make(mine.folder.parents[1], *SHORT, "run.name=mine", *words)


def test_last_is_the_newest_run_that_has_a_checkpoint(mine):
    second = another(mine)
    assert (mine.folder.name, second.folder.name) == ("version_0", "version_1")
    assert second.folder.is_dir()  # as if it had been killed before its first checkpoint
    again = another(mine, "ckpt_path=last")
    assert again.folder == mine.folder and again.start.checkpoint.parent.parent == again.folder


def test_a_longer_run_goes_on_a_complete_one_says_so_and_a_shorter_one_is_refused(tmp_path, capsys):
    fit(make(tmp_path, *SHORT))
    longer = fit(make(tmp_path, *SHORT[1:], "trainer.max_epochs=3", "ckpt_path=last"))
    assert longer.trainer.global_step == 3
    capsys.readouterr()
    fit(make(tmp_path, *SHORT, "trainer.max_epochs=3", "ckpt_path=last"))
    output = capsys.readouterr().out
    assert "the run is complete: it has had 3 rollouts" in output and "3 optimizer steps" in output
    # It cannot be made shorter.
    words = [*SMALL, *FEW_PROBLEMS, *SHORT, f"run.logs={tmp_path}", "ckpt_path=last"]
    with pytest.raises(SystemExit) as stopped:
        main(expand(words, CONFIGS), CONFIGS)
    assert stopped.value.code == 2 and "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "word, message",
    [
        ("objective.tau_p=0.5", "was started with model.objective.selection.tau_p=0.002, not 0.5"),
        ("data.group_size=8", "was started with data.group_size=4, not 8"),
        ("objective=grpo", "was started with model.objective"),
        ("model.optimizer.lr=1", "was started with model.optimizer.lr=0.0004, not 1"),
        ("seed_everything=7", "was started with seed_everything=0, not 7"),
    ],
)
def test_another_run_is_not_continued(mine, tmp_path, word, message):
    with pytest.raises(ConfigError, match=message):
        another(mine, "ckpt_path=last", word)
    # Named outright, a checkpoint may be continued in another way.
    (checkpoint,) = mine.folder.glob("checkpoints/*.ckpt")
    assert make(tmp_path, *SHORT, word, f"ckpt_path={checkpoint}").start.checkpoint == checkpoint


def test_a_refused_run_leaves_the_config_of_the_run_in_place(tmp_path):
    """By which its checkpoints are exported: with another alpha they would be another model."""
    cli = fit(make(tmp_path, *SHORT, "model.lora.rank=2", "model.lora.alpha=4"))
    before = (cli.folder / "config.yaml").read_text()
    (checkpoint,) = cli.folder.glob("checkpoints/*.ckpt")
    words = ("trainer.max_epochs=2", "model.lora.rank=2", "model.lora.alpha=5")
    curves = read_scalars(cli.folder)
    with pytest.raises(ConfigError, match="alpha"):
        make(tmp_path, *words, f"ckpt_path={checkpoint}").fit()
    assert (cli.folder / "config.yaml").read_text() == before
    assert read_scalars(cli.folder) == curves


def test_a_checkpoint_of_another_version_is_refused(mine, tmp_path):
    (checkpoint,) = mine.folder.glob("checkpoints/*.ckpt")
    saved = torch.load(checkpoint, weights_only=False)
    del saved["policy"]  # the first versions wrote no format
    torch.save(saved, old := tmp_path / "old.ckpt")
    message = "old.ckpt: the checkpoint has format 1, and this version of stapo_pl reads format 2"
    with pytest.raises(ConfigError, match=f"ckpt_path=.*{message}"):
        make(tmp_path, *SHORT, f"ckpt_path={old}")
    with pytest.raises(ConfigError, match=message):
        export(old, tmp_path / "model")


def test_a_run_names_classes_by_the_packages_that_offer_them(mine):
    """Files may be split; the config of a run stays the same."""
    text = (mine.folder / "config.yaml").read_text()
    for name in ("stapo_pl.STAPO", "stapo_pl.S2T", "stapo_pl.Arithmetic", "torch.optim.AdamW"):
        assert f"class_path: {name}\n" in text


def test_changes_of_the_trainer_are_refused_or_named(mine, capsys):
    for word in ("gradient_clip_val=0.5", "gradient_clip_algorithm=value", "precision=64-true"):
        key, value = f"trainer.{word}".split("=")
        with pytest.raises(ConfigError, match=f"was started with {key}=.*, not {value}"):
            another(mine, "ckpt_path=last", f"{key}={value}")
    capsys.readouterr()
    another(mine, "ckpt_path=last", "trainer.accumulate_grad_batches=4")
    said = capsys.readouterr().out
    assert "changed since the checkpoint: trainer.accumulate_grad_batches 2 -> 4" in said
    assert f"from step 1, {mine.folder}" in said


def test_settings_of_the_optimizer_are_those_of_the_command(tmp_path, capsys):
    """Learning rate, betas, decay and schedule, from the first step on; the state is kept."""
    base = (*SHORT[1:], "trainer.check_val_every_n_epoch=9", "model.warmup_steps=1")
    first = fit(make(tmp_path, *base, "trainer.max_epochs=2"))
    words = (
        *base, "trainer.max_epochs=4", "model.optimizer.lr=1e-6", "model.lr_schedule=linear",
        "model.optimizer.init_args.weight_decay=0.3", "model.optimizer.init_args.betas=[0.5,0.9]",
        f"ckpt_path={first.folder}/checkpoints/rollout-00001.ckpt",
    )  # fmt: skip
    capsys.readouterr()
    cli = make(tmp_path, *words)
    said = capsys.readouterr().out
    for text in ("lr 0.0004 -> 1e-06", "weight_decay 0.0 -> 0.3", "model.lr_schedule constant ->"):
        assert text in said, text
    fit(cli)
    (group,) = cli.trainer.optimizers[0].param_groups
    assert (group["weight_decay"], group["betas"]) == (0.3, (0.5, 0.9))
    rates = [value for _, value in read_scalars(cli.folder)["policy/lr"]]
    # Warm-up from 0 in one step; then a line from 1 at step 1 to 0 at step 4.
    assert rates == pytest.approx([0, 4e-4, 1e-6 * 2 / 3, 1e-6 / 3])
    (state, *_) = cli.trainer.optimizers[0].state.values()
    assert state["step"] == 4


def test_the_same_settings_give_the_same_rates_whether_resumed_or_not(tmp_path):
    words = (*SHORT[1:], "trainer.check_val_every_n_epoch=9", "model.lr_schedule=cosine",
             "model.warmup_steps=1")  # fmt: skip
    whole = fit(make(tmp_path / "a", *words, "trainer.max_epochs=4"))
    half = fit(make(tmp_path / "b", *words, "trainer.max_epochs=2"))
    longer = fit(make(tmp_path / "b", *words, "trainer.max_epochs=4", "ckpt_path=last"))
    rates = [read_scalars(cli.folder)["policy/lr"] for cli in (whole, longer)]
    assert rates[0][2:] == rates[1][2:] and longer.folder == half.folder


def test_resuming_leaves_as_many_checkpoints_and_each_step_once(tmp_path):
    words = (*SHORT[1:], "trainer.check_val_every_n_epoch=9", VALIDATED)
    fit(make(tmp_path, *words, "trainer.max_epochs=1"))
    with pytest.raises(Stop):
        fit(make(tmp_path, *words, "trainer.max_epochs=6", "ckpt_path=last"), StopAt(step=4))
    cli = fit(make(tmp_path, *words, "trainer.max_epochs=6", "ckpt_path=last"))
    curves = read_scalars(cli.folder)
    assert [step for step, _ in curves["policy/loss"]] == list(range(6))
    assert [step for step, _ in curves["val/accuracy"]] == [0, 0, 5]
    assert [p.name for p in (cli.folder / "checkpoints").iterdir()] == ["rollout-00005.ckpt"]


def test_a_start_that_fails_leaves_no_folder(tmp_path, capsys):
    for words in (["model.path=/no/such/model"], ["trainer.val_check_interval=3"]):
        with pytest.raises(SystemExit) as stopped:
            main(expand([*SMALL, *FEW_PROBLEMS, f"run.logs={tmp_path}", *words], CONFIGS), CONFIGS)
        assert stopped.value.code == 2, capsys.readouterr().err
        assert not list(tmp_path.iterdir()), words


def test_a_job_that_is_started_again_goes_on(tmp_path, monkeypatch):
    """By SLURM or torchrun, with the same command; each job with its own run."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    first = fit(make(tmp_path, *SHORT))
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    other = fit(make(tmp_path, *SHORT))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert make(tmp_path, *SHORT).folder == other.folder
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    again = make(tmp_path, *SHORT[1:], "trainer.max_epochs=2")
    assert again.folder == first.folder and again.start.first_step == 1
    monkeypatch.setenv("SLURM_JOB_ID", "9")  # it was ended before its first checkpoint
    assert make(tmp_path, *SHORT).start.checkpoint is None
    monkeypatch.delenv("SLURM_JOB_ID")
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "1")
    started = fit(make(tmp_path, *SHORT))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert make(tmp_path, *SHORT).folder == started.folder


def test_a_full_disk_or_a_deleted_folder_ends_with_one_line(tmp_path, capsys, monkeypatch):
    words = [*SMALL, *FEW_PROBLEMS, "trainer.max_epochs=3", f"run.logs={tmp_path}", "run.name=x",
             "trainer.check_val_every_n_epoch=9"]  # fmt: skip
    monkeypatch.setattr(RolloutTrainer, "fit", during_second_rollout(fill_disk, RolloutTrainer.fit))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(SystemExit) as stopped:
            main(expand(words, CONFIGS), CONFIGS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code == 1 and "could not be written (File too large)" in error
    saved = [p.name for p in (tmp_path / "x/version_0/checkpoints").iterdir()]
    assert saved == ["rollout-00000.ckpt"]
    torch.load(tmp_path / "x/version_0/checkpoints/rollout-00000.ckpt", weights_only=False)
    monkeypatch.undo()
    monkeypatch.setattr(
        RolloutTrainer, "fit", during_second_rollout(delete_folder, RolloutTrainer.fit)
    )
    with pytest.raises(SystemExit) as stopped:
        main(expand(words, CONFIGS), CONFIGS)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code == 1 and "the run cannot write to" in error


def fill_disk(trainer) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY))


def delete_folder(trainer) -> None:
    shutil.rmtree(trainer.log_dir)


def during_second_rollout(act, fit):
    """`Trainer.fit` that saves every rollout, with one more callback."""

    class Act(L.Callback):
        def on_train_epoch_start(self, trainer, pl_module) -> None:
            if trainer.current_epoch == 1:
                act(trainer)

    def acting(trainer, *args, **kwargs) -> None:
        trainer.checkpoint_callback.every_n_rollouts = 1
        trainer.callbacks.append(Act())
        fit(trainer, *args, **kwargs)

    return acting


class Stop(Exception):
    """Ends a run in the middle."""


class StopAt(L.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            raise Stop


def test_what_does_not_change_the_training_may_change(mine):
    words = (
        "ckpt_path=last", "data.validation.samples=3", "sampler=transformers",
        "sampler.batch_size=8", "model.on_sampler_gap=raise",
    )  # fmt: skip
    assert another(mine, *words).folder == mine.folder
