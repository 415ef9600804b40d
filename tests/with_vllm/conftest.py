"""What tests with vLLM share."""

from __future__ import annotations

import pytest

from support.commands import FORKS, PRELOADED


@pytest.fixture(scope="session", autouse=True)
def imported() -> None:
    """Commands are forked from a process that has imported vLLM, too."""
    FORKS.set_forkserver_preload([*PRELOADED, "support.import_vllm"])


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> None:
    """What a test leaves there is found by no other."""
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path / "vllm"))
