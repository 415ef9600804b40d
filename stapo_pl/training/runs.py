"""The run folder: where it is, and how the checkpoint to resume from is found.

The run folder `logs/NAME/version_N` holds the configuration, the checkpoints and the curves.
"""

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

# This file in a run folder names the job of a scheduler that the run belongs to.
_JOB = ".job"
_VERSION = re.compile(r"version_(\d+)")


@dataclass
class Run:
    """The name of a run, and how often it saves checkpoints and shows completions.

    Args:
        name: the name of the run, which is a folder in `logs`. None makes a name from the
            objective, the task and the seed. The command adds the settings that differ from the
            defaults. Each start makes a folder version_0, version_1, ... in it. ckpt_path=last
            continues the newest.
        objective: the objective's part of that name. None takes the class, and `objective=FILE` on
            the command line takes the name of the file.
        task: the task's part of that name. None takes the class, and `task=FILE` on the command
            line takes the name of the file.
        experiment: the first part of that name. `experiment=FILE` on the command line sets it.
        logs: the folder of all runs.
        checkpoint_every: the number of rollouts from one checkpoint to the next. The last rollout
            always has one.
        checkpoint_keep: how many of the newest checkpoints are kept. -1 keeps all.
        completions: how many completions of a rollout are shown. 0 shows none.
        completions_every: the number of rollouts from one that is shown to the next.

    Raises:
        ConfigError: a number is out of range.
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

    def root(self, objective: object, task: object, seed: int) -> Path:
        """Returns the folder of the run's name. Without a name it is like `stapo-arithmetic-seed0`.

        Args:
            objective: the objective of the run, whose class is the first part of the name.
            task: the task of the run, whose class is the second part.
            seed: the seed of the run.
        """
        parts = (
            self.experiment,
            self.objective or type(objective).__name__,
            self.task or type(task).__name__,
            f"seed{seed}",
        )
        return Path(self.logs) / (self.name or "-".join(filter(None, parts)).lower())


def check_writable(logs: Path) -> None:
    """Makes the folder of all runs if it does not exist, and checks that it can be written to.

    Raises:
        ConfigError: it cannot be written to.
    """
    try:
        logs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=logs):
            pass
    except OSError as error:
        raise ConfigError(f"run.logs={logs}: cannot write there: {error.strerror}") from error


def run_folders(root: Path) -> list[Path]:
    """Returns the run folders `version_0`, `version_1`, ... of a name, oldest first."""
    found = [p for p in root.glob("version_*") if _VERSION.fullmatch(p.name)]
    return sorted(found, key=lambda p: int(_VERSION.fullmatch(p.name)[1]))


def next_run_folder(root: Path) -> Path:
    """Makes the folder of a new run of this name. No other start can take the same folder.

    Only the first process makes it. The others learn its name from the first one later.
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
    """Returns the checkpoint that a run resumes from, or None for a new run.

    Args:
        root: the folder of the run's name.
        given: a checkpoint, or `last` for the newest one of this name. If a scheduler has started
            its job again, the job resumes from its own checkpoint, whatever is given here.

    Raises:
        ConfigError: there is no such checkpoint.
    """
    if restarted := checkpoint_of_restarted_job(root):
        return restarted.absolute()
    return named_checkpoint(root, given)


def named_checkpoint(root: Path, given: str | Path | None) -> Path | None:
    """Returns the checkpoint that `ckpt_path` names. None if it is None.

    Args:
        root: the folder of the run's name.
        given: a checkpoint, or `last` for the newest one of this name.

    Raises:
        ConfigError: there is no such checkpoint.
    """
    if given == "last":
        return last_checkpoint(root).absolute()
    if given is not None and not Path(given).exists():
        raise ConfigError(f"ckpt_path={given}: no such checkpoint")
    return None if given is None else Path(given).absolute()


def settle_folder(root: Path, checkpoint: Path | None) -> tuple[Path, bool]:
    """Returns the run folder, and whether it is new. A resumed run keeps its folder."""
    check_writable(root.parent)
    if checkpoint is not None and checkpoint.parent.name == "checkpoints":
        take_over(checkpoint.parents[1])
        return checkpoint.parents[1], False
    return next_run_folder(root), True


def remove_run_folder(folder: Path) -> None:
    """Removes the folder of a run that never began, and the folder of its name if it is empty."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.parent.is_dir() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def last_checkpoint(root: Path) -> Path:
    """Returns the newest checkpoint of the newest run of this name that has one.

    Raises:
        ConfigError: no run of this name has a checkpoint.
    """
    for folder in reversed(run_folders(root)):
        if found := newest_checkpoint(folder):
            return found
    names = {path.parents[2].name for path in root.parent.glob("*/version_*/checkpoints/*")}
    nearest = difflib.get_close_matches(root.name, sorted(names), n=5, cutoff=0)
    there = f"; there are runs {', '.join(nearest)}" if nearest else ""
    raise ConfigError(
        f"ckpt_path=last: there is no checkpoint in {root}{there}; a run is found by its settings "
        "or by run.name=NAME; leave ckpt_path out to start one"
    )


def checkpoint_of_restarted_job(root: Path) -> Path | None:
    """Returns the newest checkpoint of a run of this name, if a scheduler started its job again.

    SLURM counts how often a job was queued again, and torchrun how often it started its workers.
    The result is None at the first start, and also if the job was ended before its first
    checkpoint. The run then begins anew.
    """
    counts = ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")
    if not any(int(os.environ.get(name) or 0) for name in counts):
        return None
    jobs = [p for p in root.glob(f"version_*/{_JOB}") if p.read_text() == _job()]
    checkpoints = [found for job in jobs if (found := newest_checkpoint(job.parent))]
    return max(checkpoints, key=_written, default=None)


def take_over(folder: Path) -> None:
    """Writes into a run folder that its run now belongs to this job."""
    if (job := _job()) and is_first_process():
        (folder / _JOB).write_text(job)


def _job() -> str | None:
    """Returns a name of this job that stays the same at every start. None without a scheduler."""
    environment = os.environ
    if "SLURM_ARRAY_JOB_ID" in environment:
        return f"slurm {environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    if "SLURM_JOB_ID" in environment:
        return f"slurm {environment['SLURM_JOB_ID']}"
    if "TORCHELASTIC_RUN_ID" in environment:
        # If the user gave no id, it is the same for all runs. On one node, the process number of
        # torchrun tells them apart.
        is_alone = environment.get("GROUP_WORLD_SIZE") == "1"
        return f"torchrun {environment['TORCHELASTIC_RUN_ID']} {os.getppid() if is_alone else ''}"
    return None


def newest_checkpoint(folder: Path) -> Path | None:
    """Returns the newest checkpoint in a run folder, or None."""
    found = (path for path in (folder / "checkpoints").glob("*.ckpt") if path.exists())
    return max(found, key=_written, default=None)


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns


def why_not_written(error: OSError, folder: Path | None) -> str | None:
    """Returns a line about a full disk or a deleted run folder. None for any other error."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
    is_gone = error.errno == errno.ENOENT and folder is not None and not folder.exists()
    if is_full or is_gone:
        return f"the run cannot write to {error.filename or folder}: {error.strerror}"
    return None
