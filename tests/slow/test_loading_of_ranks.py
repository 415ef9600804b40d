"""Ranks load their shares of a policy."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest
import torch
from lightning import LightningModule
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.accelerators import CPUAccelerator
from torch import distributed, multiprocessing
from transformers import Qwen3Config, Qwen3ForCausalLM

from stapo_pl.training.strategy import FSDP

pytestmark = pytest.mark.slow


def own_memory() -> int:
    """Bytes of this process that are not pages of a file."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


def load_a_share(rank: int, model: str, port: int, results: str) -> None:
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    strategy = FSDP()
    strategy._lightning_module = LightningModule()
    strategy.accelerator, strategy.cluster_environment = CPUAccelerator(), LightningEnvironment()
    strategy.parallel_devices = [torch.device("cpu")] * 2
    strategy.setup_environment()
    before, peaks, done = own_memory(), [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peaks.append(own_memory() - before)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    policy = strategy.load(model, "model.path", lambda policy: None)
    done.set()
    watcher.join()
    shares = sum(p.to_local().numel() for p in policy.parameters()) * 4
    Path(results, str(rank)).write_text(f"{max(peaks)} {shares}")
    distributed.destroy_process_group()


def test_no_rank_holds_the_whole_policy(tmp_path, monkeypatch):
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.setenv(name, "65536")  # what is freed leaves the process at once
    config = Qwen3Config(
        vocab_size=1000, hidden_size=512, intermediate_size=2048, num_hidden_layers=32,
        num_attention_heads=8, num_key_value_heads=8, head_dim=64,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    whole = 4 * model.num_parameters()
    model.save_pretrained(tmp_path / "model")
    del model
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(load_a_share, (str(tmp_path / "model"), port, str(tmp_path)), nprocs=2)
    for rank in range(2):
        peak, share = map(int, (tmp_path / str(rank)).read_text().split())
        assert share == pytest.approx(whole / 2, rel=0.01)
        assert peak < 0.75 * whole, f"rank {rank} held {peak / whole:.2f} of the policy"
