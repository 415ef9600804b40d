"""The start of a run: its folder, and the checkpoint that it resumes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from stapo_pl.core.errors import ConfigError
from stapo_pl.training.checkpoint_io import step_reached
from stapo_pl.training.private import is_first_process
from stapo_pl.training.runs import find_start, remove_run_folder, settle_folder


@dataclass
class Start:
    """Where a run starts. `find` finds the checkpoint, and `settle` makes the folder.

    Between the two, the checkpoint can be looked at before anything is written.
    """

    root: Path
    """The folder of the run's name."""
    checkpoint: Path | None
    """The checkpoint that the run resumes from. None for a new run."""
    first_step: int | None
    """The first optimizer step that a resumed run makes. None for a new run."""
    takes_other_data: bool
    """Whether the user named the checkpoint. It may be meant to go on with other data."""
    folder: Path = field(init=False)
    """The run folder. A resumed run keeps its folder."""

    @classmethod
    def find(cls, root: Path, ckpt_path: str | Path | None, sharded: bool) -> Start:
        """Finds the checkpoint that a run resumes from.

        Args:
            root: the folder of the run's name.
            ckpt_path: a checkpoint, or `last` for the newest one of this name. None starts anew.
            sharded: whether the run uses FSDP.

        Raises:
            ConfigError: there is no such checkpoint, or the run cannot resume from it.
        """
        checkpoint, first_step = find_start(root, ckpt_path), None
        if checkpoint is not None:
            first_step = check_checkpoint(checkpoint, sharded)
        return cls(root, checkpoint, first_step, ckpt_path not in (None, "last"))

    def settle(self, folder: Path | None = None) -> None:
        """Makes the folder of a new run, or takes over the folder of a resumed one.

        Args:
            folder: a run folder that is there already, and is used instead.
        """
        self.folder, self._is_new = folder, False
        if folder is None:
            self.folder, self._is_new = settle_folder(self.root, self.checkpoint)
        self._found = {*self.folder.glob("events*")}

    def leave_nothing(self) -> None:
        """Removes the new folder, because training did not begin.

        In the folder of a resumed run, only the new file of curves is removed. It would hide the
        old curves of the same steps.
        """
        if not is_first_process():
            return
        if self._is_new:
            remove_run_folder(self.folder)
            return
        for path in {*self.folder.glob("events*")} - self._found:
            path.unlink()


def check_checkpoint(path: Path, sharded: bool) -> int:
    """Checks that a run can resume from a checkpoint, and returns its number of optimizer steps.

    Args:
        path: the checkpoint, which is a folder if it was written with FSDP.
        sharded: whether the run uses FSDP.

    Raises:
        ConfigError: `step_reached` refuses it, or it was written with FSDP and the run does not
            use it, or the other way round.
    """
    step = step_reached(path)
    if path.is_dir() and not sharded:
        raise ConfigError(
            f"ckpt_path={path}: the checkpoint is sharded; go on with trainer=fsdp, on any number "
            "of ranks, or make a model folder of it with stapo export"
        )
    if path.is_file() and sharded:
        raise ConfigError(
            f"ckpt_path={path}: the checkpoint is not sharded; go on without trainer=fsdp, or "
            "start from the model folder that stapo export makes of it"
        )
    return step
