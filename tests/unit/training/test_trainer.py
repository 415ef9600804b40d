"""One setting for what passes compute in; which strategies there are, and how long ranks wait."""

from __future__ import annotations

from datetime import timedelta

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import distributed

from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.precision import compute_dtype
from stapo_pl.training import trainer as trainers
from stapo_pl.training.strategy import DDP, FSDP
from stapo_pl.training.trainer import RolloutTrainer
from support.fitting import build


@pytest.mark.parametrize(
    "precision, on_gpu, dtype",
    [
        ("auto", True, torch.bfloat16), ("auto", False, torch.float32),
        (None, True, torch.bfloat16), ("32-true", True, torch.float32),
        (32, False, torch.float32), ("bf16-mixed", False, torch.bfloat16),
        ("64-true", False, torch.float64),
    ],
)  # fmt: skip
def test_passes_compute_in_bfloat16_where_there_is_a_gpu(precision, on_gpu, dtype):
    assert compute_dtype(precision, on_gpu) == dtype


@pytest.mark.parametrize("words", [(), ("trainer=ddp",), ("trainer=fsdp",)])
def test_the_default_is_one_for_all_strategies(tmp_path, words):
    cli = build([*words, "trainer.accelerator=cpu"], tmp_path)
    assert cli.config.trainer.precision == "auto" and cli.trainer.precision == "32-true"


def test_shards_are_cast_by_fsdp_and_everything_else_by_autocast(tmp_path):
    words = ["trainer.accelerator=cpu", "trainer.precision=bf16-mixed"]
    assert build(words, tmp_path).trainer.precision == "bf16-mixed"
    sharded = build(["trainer=fsdp", *words], tmp_path).trainer
    assert sharded.precision == "32-true"
    assert sharded.strategy.compute_dtype == torch.bfloat16


def test_matrix_products_on_a_gpu_take_its_tensor_cores(monkeypatch):
    """What a machine with a GPU would be asked for, without one."""
    asked = {}

    class Asked(Exception):
        pass

    def ask(trainer, **given):
        asked.update(given)
        raise Asked

    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda p: asked.update(matmul=p))
    monkeypatch.setattr(trainers.L.Trainer, "__init__", ask)
    with pytest.raises(Asked):
        RolloutTrainer(accelerator="gpu")
    assert (asked["precision"], asked["matmul"]) == ("bf16-mixed", "high")
    asked.clear()
    with pytest.raises(Asked):
        RolloutTrainer(accelerator="gpu", precision="32-true")
    assert asked["precision"] == "32-true" and "matmul" not in asked


@pytest.mark.parametrize(
    "strategy",
    [
        "fsdp", "deepspeed", "deepspeed_stage_3", "ddp_spawn", "FSDPStrategy",
        "lightning.pytorch.strategies.FSDPStrategy",
        "lightning.pytorch.strategies.DeepSpeedStrategy",
        "lightning.pytorch.strategies.ModelParallelStrategy",
    ],
)  # fmt: skip
def test_strategies_that_hand_out_shards_are_refused(tmp_path, strategy):
    with pytest.raises(ConfigError, match=r"is not supported.*trainer=fsdp"):
        build([f"trainer.strategy={strategy}"], tmp_path)


@pytest.mark.parametrize(
    "strategy, kind",
    [("auto", SingleDeviceStrategy), ("ddp", DDP), ("stapo_pl.training.strategy.FSDP", FSDP)],
)
def test_strategies_that_are_known_to_work(tmp_path, strategy, kind):
    words = [f"trainer.strategy={strategy}", "trainer.accelerator=cpu"]
    assert isinstance(build(words, tmp_path).trainer.strategy, kind)


def waits(cli) -> timedelta:
    """How long the ranks of a run wait for each other, once they are connected."""
    cli.trainer.strategy.connect(cli.model)
    cli.trainer.strategy.setup_environment()
    try:
        groups = [distributed.group.WORLD]
        if mesh := getattr(cli.trainer.strategy, "device_mesh", None):
            groups.append(mesh["data_parallel"].get_group())
        (found,) = {g._get_backend(torch.device("cpu")).options._timeout for g in groups}
        return found
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("words", [("trainer=ddp",), ("trainer=fsdp",), ("trainer.strategy=ddp",)])
def test_ranks_wait_for_hours(tmp_path, words):
    words = (*words, "trainer.accelerator=cpu")
    assert waits(build([*words], tmp_path)) == timedelta(hours=6)
    if "." not in words[0]:
        assert waits(build([*words, "trainer.strategy.timeout=1.5"], tmp_path)) == timedelta(
            hours=1.5
        )
        with pytest.raises(ConfigError, match=r"trainer\.strategy\.timeout must be more than 0"):
            build([*words, "trainer.strategy.timeout=0"], tmp_path)
