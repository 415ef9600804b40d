"""Stops and checkpoints come between rollouts, validations between mini-batches."""

from __future__ import annotations

import copy
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer

from stapo_pl.core.errors import ConfigError, TrainingError
from stapo_pl.core.types import Decoding, Request
from stapo_pl.rollout.sizes import BatchSizes
from support.fitting import VALIDATED, fit, make, scalars

RARE = ("trainer.check_val_every_n_epoch=9",)


class SampleInside(L.Callback):
    """Has the policy sample anew between the micro-batches of a mini-batch."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        sampler = next(c for c in trainer.callbacks if hasattr(c, "engine"))
        sampler.on_load_checkpoint(trainer, pl_module, {})  # so that weights are sent again
        request = Request(trainer.datamodule.rollouts.source.stream[0].token_ids, seed=1)
        sampler.generate([request], Decoding(4), lambda ended: None)


def test_nobody_touches_a_half_made_gradient(small_run, tmp_path):
    """Validations between mini-batches, and samples inside one, leave all steps as they are."""
    plain = scalars(small_run)
    sampled = scalars(fit(make(tmp_path, *RARE), SampleInside()))
    words = ("trainer.check_val_every_n_epoch=1", "trainer.val_check_interval=2", VALIDATED)
    validated = scalars(fit(make(tmp_path, *words)))
    # Before training, within each rollout and after it.
    assert "val/accuracy" not in plain and len(validated["val/accuracy"]) == 5
    for name in ("policy/grad_norm", "policy/loss", "policy/entropy"):
        assert plain[name] == sampled[name] == validated[name], name


def test_validation_inside_a_mini_batch_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"val_check_interval=1 .* with its 2 optimizer .* multiple of 2 up to 4"
    ):
        fit(make(tmp_path, "trainer.val_check_interval=1", VALIDATED))
    sizes = BatchSizes(8, 4, 2, 1)  # four mini-batches
    for fine in (3, 6, 12, 1.0, 0.5, 0.25):
        sizes.check_validation(fine, 3)
    for inside in (1, 4, 0, 24, 0.4, 0.01, "00:00:10:00"):
        with pytest.raises(ConfigError, match="multiple of 3"):
            sizes.check_validation(inside, 3)


class Stop(L.Callback):
    """Ends the run before a step, as a kill would: nothing more is written."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            raise TrainingError("killed")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Four rollouts without a stop."""
    return fit(make(tmp_path_factory.mktemp("whole"), "trainer.max_epochs=4", *RARE))


def weights(cli) -> dict[str, torch.Tensor]:
    return copy.deepcopy(cli.model.policy.state_dict())


def test_a_checkpoint_asked_for_inside_a_rollout_is_made_at_its_end(whole, tmp_path):
    """K = 2 steps a rollout. One is asked for after each third step; the run ends in the middle."""
    words = ("trainer.max_epochs=4", *RARE)
    every_third = ModelCheckpoint(every_n_train_steps=3, save_top_k=1, filename="{step}")
    with pytest.raises(TrainingError, match="killed"):
        fit(make(tmp_path, *words), every_third, Stop(step=5))
    (saved,) = tmp_path.rglob("*.ckpt")
    assert torch.load(saved, weights_only=False)["global_step"] == 4
    resumed = fit(make(tmp_path, *words, "ckpt_path=last"))
    assert resumed.start.first_step == 4 and resumed.trainer.global_step == 8
    expected = weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights(resumed).items())
    steps = scalars(whole)["policy/loss"]
    assert scalars(resumed)["policy/loss"] == steps


def test_what_was_there_is_removed_only_when_the_new_one_is(tmp_path):
    """Asked after each of two steps: one is there at any time, and one is written a rollout."""
    seen: list[list[str]] = []

    class Look(L.Callback):
        def on_train_batch_end(self, trainer, *args) -> None:
            seen.append(sorted(p.name for p in Path(trainer.log_dir).rglob("*.ckpt")))

    every = ModelCheckpoint(every_n_train_steps=1, save_top_k=1, filename="{step}")
    cli = make(tmp_path, "trainer.max_epochs=3", *RARE)
    cli.trainer.callbacks = [c for c in cli.trainer.callbacks if "Checkpoint" not in str(type(c))]
    fit(cli, every, Look())
    # Four micro-batches a rollout: nothing yet, then that of the rollout before.
    assert seen == [[]] * 4 + [["step=2.ckpt"]] * 4 + [["step=4.ckpt"]] * 4


@pytest.mark.parametrize("kind", ["early stopping", "time", "any callback"])
def test_a_run_that_is_stopped_ends_with_a_whole_rollout_and_its_checkpoint(whole, tmp_path, kind):
    class StopInside(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            trainer.should_stop = trainer.should_stop or trainer.global_step == 2

    stopping = {
        "early stopping": EarlyStopping("val/accuracy", patience=0, mode="min", min_delta=1.0),
        "time": Timer({"milliseconds": 1}, interval="step"),
        "any callback": StopInside(),
    }[kind]
    validated = [VALIDATED] * (kind == "early stopping")
    cli = fit(make(tmp_path, "trainer.max_epochs=50", *validated), stopping)
    expected = {"early stopping": 4, "time": 2, "any callback": 4}[kind]
    assert cli.trainer.global_step == expected
    (saved,) = (cli.folder / "checkpoints").iterdir()
    assert torch.load(saved, weights_only=False)["global_step"] == expected
    assert scalars(cli)["policy/loss"][-1][0] == expected - 1
    if kind != "early stopping":
        return
    # It goes on as if it had not been stopped.
    longer = ("trainer.max_epochs=3", *RARE)
    resumed = fit(make(tmp_path, *longer, "ckpt_path=last"))
    assert scalars(resumed)["policy/loss"] == scalars(whole)["policy/loss"][:6]


def test_a_checkpoint_from_inside_a_rollout_is_not_gone_on_from(tmp_path):
    cli = fit(make(tmp_path, "trainer.max_epochs=1", *RARE))
    (path,) = (cli.folder / "checkpoints").iterdir()
    saved = torch.load(path, weights_only=False)
    saved["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] = 0
    torch.save(saved, path)
    with pytest.raises(ConfigError, match="was written inside a rollout"):
        make(tmp_path, "trainer.max_epochs=1", "ckpt_path=last")
