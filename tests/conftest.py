"""What every test starts with, and runs that are made once and read by many tests."""

from __future__ import annotations

import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small models gain nothing by a second thread
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # figures that tests compare are the CPU's

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from support.places import DOCUMENTS

# Fixtures import what they need where they need it: the process that hands tests out to workers
# reads this file as well, and starts sooner without torch.


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two workers share a folder of tests; for single files a second one would start too late."""
    return 0 if all(Path(word.partition("::")[0]).is_file() for word in config.args) else 2


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Lightning writes its ports into the environment, which processes of later tests inherit."""
    with patch.dict(os.environ):
        yield


@pytest.fixture
def generator():
    import torch

    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def benchmark_folder() -> Path:
    """Of the six evaluation sets, which are no part of the project."""
    folder = os.environ.get("STAPO_BENCHMARKS")
    if folder is None:
        pytest.skip("STAPO_BENCHMARKS names no folder with the benchmark files")
    assert Path(folder).is_dir(), f"STAPO_BENCHMARKS={folder} is no folder"
    return Path(folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The folder of an evaluation."""
    from support.evaluating import evaluate

    return evaluate(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory) -> Path:
    """The folder of a run with which those are compared that were killed."""
    from support import resuming

    folder = tmp_path_factory.mktemp("uninterrupted")
    assert resuming.fit(folder, None).returncode == 0
    recorded = resuming.losses(folder)
    trained = [key for key in recorded if key[0] != "validation"]
    assert len(trained) == resuming.ROLLOUTS * resuming.BATCHES
    return folder


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """Two rollouts of the default objective, with nothing special."""
    from support.fitting import fit, make

    return fit(make(tmp_path_factory.mktemp("small_run")))


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A model whose turns end in another token than its tokenizer's eos."""
    from support.endings import make_model

    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """Imports a module that the README, or one in a folder, shows."""
    names = []

    def load(name: str):
        texts = "".join(document.read_text() for document in DOCUMENTS)
        (code,) = re.findall(rf"```python\n# {name}.py\n(.*?)```", texts, re.DOTALL)
        assert code.count("\n") < 30
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        names.append(name)
        return importlib.import_module(name)

    yield load
    for name in names:
        del sys.modules[name]


@pytest.fixture
def own_objective(shown):
    return shown("my_objectives")
