"""What tests with vLLM share."""

from __future__ import annotations

import pytest

from support.commands import FORKS, PRELOADED


@pytest.fixture(scope="session", autouse=True)
def imported() -> None:
    """Commands are forked from a process that has imported vLLM, too."""
    FORKS.set_forkserver_preload([*PRELOADED, "support.import_vllm"])


@pytest.fixture(scope="session")
def vllm_cache(tmp_path_factory) -> str:
    """What a process learns of a model in seconds, those after it find here."""
    return str(tmp_path_factory.mktemp("vllm"))


@pytest.fixture(autouse=True)
def cache(monkeypatch, vllm_cache) -> None:
    monkeypatch.setenv("VLLM_CACHE_ROOT", vllm_cache)
