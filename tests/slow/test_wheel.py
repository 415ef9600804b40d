"""The wheel brings the command `stapo`, its configs and its types, and needs no clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from support.places import ROOT

pytestmark = pytest.mark.slow


def run(*command: object, **options) -> str:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The bin folder of a fresh environment with the wheel, beside the packages of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("stapo_pl", "configs", "tests/golden"):
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "-q")
    run(*pip, "wheel", source, "-w", folder, "--no-deps", "--no-build-isolation")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    run(*pip, "--python", python, "install", "--no-deps", wheel)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))  # editable installs excepted
    return python.parent


def test_the_command_trains_from_an_empty_folder(installed, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    words = [
        "data.prompts_per_rollout=4", "data.prompts_per_mini_batch=4", "data.group_size=2",
        "trainer.max_epochs=1", "trainer.accumulate_grad_batches=1", "data.max_new_tokens=8",
        "data.validation.samples=1", "task.validation_size=4", "task.train_size=16",
    ]  # fmt: skip
    output = run(installed / "stapo", "fit", *words, cwd=tmp_path, env=environment)
    assert "1 optimizer steps" in output
    (folder,) = (tmp_path / "logs").glob("*/version_0")
    assert (folder / "config.yaml").is_file() and list(folder.glob("checkpoints/*.ckpt"))
    run(installed / "stapo", "export", "last", "model", cwd=tmp_path, env=environment)
    assert (tmp_path / "model" / "config.json").is_file()
    (package,) = installed.parent.glob("lib/python*/site-packages/stapo_pl")
    assert {p.name for p in (package / "configs").iterdir()} >= {"fit.yaml", "objective", "task"}
    assert (package / "py.typed").is_file()


def test_the_command_checks_an_objective_of_ones_own(installed, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    code = "from stapo_pl.objectives import CISPO\nclass Mine(CISPO):\n    pass\n"
    (tmp_path / "mine.py").write_text(code)
    words = ["conformance", "mine.Mine", "--like", "cispo(low=0.2"]
    output = run(installed / "stapo", *words, cwd=tmp_path, env=environment)
    assert "cispo(low=0.2,high=0.28) token-mean" in output and output.count(" passed ") == 7
    (package,) = installed.parent.glob("lib/python*/site-packages/stapo_pl")
    assert {path.name for path in (package / "golden").iterdir()} == {"verl_0.9.1.json"}
