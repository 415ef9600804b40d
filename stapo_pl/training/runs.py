"""Where a run is logged, and how the run that is to go on is found again."""

from __future__ import annotations

import difflib
import errno
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from stapo_pl.core.errors import ConfigError
from stapo_pl.training.private import is_first_process

# The file of a run folder that says which job of a scheduler it belongs to.
_JOB = ".job"
_VERSION = re.compile(r"version_(\d+)")


@dataclass
class Run:
    """Where a run is logged.

    Args:
        name: folder of the run under `logs`; None is the objective, the task, what was set
            otherwise than usual, and the seed. Each start makes a folder version_0, version_1, ...
            in it; ckpt_path=last continues the newest.
        objective: in that name; None is the class. `objective=stapo_v1` sets it to the file's name.
        task: likewise.
        experiment: in front of that name; `experiment=NAME` sets it.
        logs: folder of all runs.
        checkpoint_every: rollouts between two checkpoints; the last rollout always has one.
        checkpoint_keep: how many of the newest checkpoints stay; -1 keeps all.
        completions: how many completions of a rollout are shown; 0 shows none.
        completions_every: rollouts between two that are shown.

    Raises:
        ConfigError: one of the numbers is out of range.
    """

    name: str | None = None
    objective: str | None = None
    task: str | None = None
    experiment: str | None = None
    logs: str = "logs"
    checkpoint_every: int = 5
    checkpoint_keep: int = 1
    completions: int = 4
    completions_every: int = 10

    def __post_init__(self) -> None:
        for name in ("checkpoint_every", "completions_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"run.{name} must be at least 1, got {getattr(self, name)}")
        if self.checkpoint_keep < -1 or self.checkpoint_keep == 0:
            raise ConfigError(
                f"run.checkpoint_keep must be at least 1, or -1 for all, got {self.checkpoint_keep}"
            )
        if self.completions < 0:
            raise ConfigError(f"run.completions must not be negative, got {self.completions}")


def check_writable(logs: Path) -> None:
    """Checks that runs can be written in `logs`, which is made if it is not there.

    Raises:
        ConfigError: they cannot.
    """
    try:
        logs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=logs):
            pass
    except OSError as error:
        raise ConfigError(f"run.logs={logs}: cannot write there: {error.strerror}") from error


def run_folders(root: Path) -> list[Path]:
    """The folders `version_0`, `version_1`, ... of a run's name, oldest first."""
    found = [p for p in root.glob("version_*") if _VERSION.fullmatch(p.name)]
    return sorted(found, key=lambda p: int(_VERSION.fullmatch(p.name)[1]))


def next_run_folder(root: Path) -> Path:
    """The folder of a new run of this name, made so that no other start can take it.

    The first process makes it; the others write nothing that the first one does not tell them.
    """
    is_first = is_first_process() and not any(
        int(os.environ.get(name, 0)) for name in ("NODE_RANK", "GROUP_RANK")
    )
    while True:
        folders = run_folders(root)
        number = int(_VERSION.fullmatch(folders[-1].name)[1]) + 1 if folders else 0
        folder = root / f"version_{number}"
        if not is_first:
            return folder
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue  # another start was faster
        if job := _job():
            (folder / _JOB).write_text(job)
        return folder


def find_start(root: Path, given: str | Path | None) -> Path | None:
    """The checkpoint that a run goes on from; None if it starts.

    Args:
        root: folder of the run's name.
        given: a checkpoint, or `last` for the newest of this name. A job that its scheduler started
            again goes on from its own, whatever is given.

    Raises:
        ConfigError: there is none.
    """
    if restarted := checkpoint_of_restarted_job(root.parent):
        return restarted.absolute()
    if given == "last":
        return last_checkpoint(root).absolute()
    if given is not None and not Path(given).exists():
        raise ConfigError(f"ckpt_path={given}: no such checkpoint")
    return None if given is None else Path(given).absolute()


def settle_folder(root: Path, checkpoint: Path | None) -> tuple[Path, bool]:
    """The folder of a run, and whether it is a new one. The run of a checkpoint keeps its own."""
    check_writable(root.parent)
    if checkpoint is not None and checkpoint.parent.name == "checkpoints":
        take_over(checkpoint.parents[1])
        return checkpoint.parents[1], False
    return next_run_folder(root), True


def remove_run_folder(folder: Path) -> None:
    """Removes the folder of a run that never began, and that of its name if it was the only one."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.parent.is_dir() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def last_checkpoint(root: Path) -> Path:
    """The newest complete checkpoint of the newest run of this name that has one.

    Raises:
        ConfigError: there is none.
    """
    for folder in reversed(run_folders(root)):
        if found := _newest_checkpoint(folder):
            return found
    names = {path.parents[2].name for path in root.parent.glob("*/version_*/checkpoints/*")}
    nearest = difflib.get_close_matches(root.name, sorted(names), n=5, cutoff=0)
    there = f"; there are runs {', '.join(nearest)}" if nearest else ""
    raise ConfigError(
        f"ckpt_path=last: there is no checkpoint in {root}{there}; a run is found by its settings "
        "or by run.name=NAME; leave ckpt_path out to start one"
    )


def checkpoint_of_restarted_job(logs: Path) -> Path | None:
    """Where a job goes on that its scheduler started again; None for a first start.

    SLURM counts the starts of a job that was queued again, torchrun those of its workers. None
    also if the job was ended before its first checkpoint: then it begins anew.
    """
    counts = ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")
    if not any(int(os.environ.get(name) or 0) for name in counts):
        return None
    jobs = [p for p in logs.glob(f"*/version_*/{_JOB}") if p.read_text() == _job()]
    checkpoints = [found for job in jobs if (found := _newest_checkpoint(job.parent))]
    return max(checkpoints, key=_written, default=None)


def take_over(folder: Path) -> None:
    """Notes that the run in this folder is from now on this job's."""
    if (job := _job()) and is_first_process():
        (folder / _JOB).write_text(job)


def _job() -> str | None:
    """What names the job of a scheduler, through all of its starts; None without a scheduler."""
    environment = os.environ
    if "SLURM_ARRAY_JOB_ID" in environment:
        return f"slurm {environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    if "SLURM_JOB_ID" in environment:
        return f"slurm {environment['SLURM_JOB_ID']}"
    if "TORCHELASTIC_RUN_ID" in environment:
        # Unless it was given, the id is the same for all. On one node, torchrun itself is not.
        is_alone = environment.get("GROUP_WORLD_SIZE") == "1"
        return f"torchrun {environment['TORCHELASTIC_RUN_ID']} {os.getppid() if is_alone else ''}"
    return None


def _newest_checkpoint(folder: Path) -> Path | None:
    found = (path for path in (folder / "checkpoints").glob("*.ckpt") if path.exists())
    return max(found, key=_written, default=None)


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns


def why_not_written(error: OSError, folder: Path) -> str | None:
    """In one line, what a full disk or a deleted run folder says; None for any other error."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
    is_gone = error.errno == errno.ENOENT and not folder.exists()
    if is_full or is_gone:
        return f"the run cannot write to {error.filename or folder}: {error.strerror}"
    return None
