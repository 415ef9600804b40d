"""Loggers that write into the run folder, and a function that logs text with any logger."""

from __future__ import annotations

import csv
import html
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from stapo_pl.core.errors import ConfigError
from stapo_pl.training.private import hide_curves_from

_GLOBAL_STEP = "trainer/global_step"  # Lightning draws its curves in W&B over this axis


class TensorBoard(TensorBoardLogger):
    """Writes TensorBoard's event files into the run folder."""

    def __init__(self) -> None:
        super().__init__(save_dir=".", default_hp_metric=False)
        self._folder = Path()

    def place(self, folder: Path, first_step: int | None) -> None:
        """Sets the run folder.

        If a run resumes, points of earlier curves from `first_step` on are hidden, because these
        steps are made again.
        """
        self._folder = folder
        hide_curves_from(self, first_step)

    @property
    def root_dir(self) -> str:
        return str(self._folder)

    @property
    def log_dir(self) -> str:
        return str(self._folder)


class CSV(Logger):
    """Writes all curves into one table, metrics.csv in the run folder.

    Each call of `log_metrics` makes a row.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[dict[str, Any]] = []
        self._columns: list[str] = []
        self._is_open = False

    def place(self, folder: Path, first_step: int | None) -> None:
        """Sets the run folder.

        If a run resumes, earlier rows from `first_step` on are removed, because these steps are
        made again.
        """
        self._file, self._first_step = folder / "metrics.csv", first_step

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> Path:
        return self._file

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Writes nothing, because config.yaml is in the same folder."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._rows.append({"step": step} | metrics)

    @rank_zero_only
    def save(self) -> None:
        """Writes the rows that were logged since the last call."""
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        columns = list(dict.fromkeys([*self._columns, *(key for row in rows for key in row)]))
        if self._is_open and columns == self._columns:
            with self._file.open("a", newline="") as file:
                csv.DictWriter(file, columns).writerows(rows)
            return
        # New columns change the header, so the whole file is written again under another name.
        before = self._read()
        self._columns = list(dict.fromkeys([*(before[0] if before else ()), *columns]))
        written = self._file.with_suffix(".tmp")
        with written.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(before + rows)
        written.replace(self._file)
        self._is_open = True

    def _read(self) -> list[dict[str, Any]]:
        if not self._file.is_file():
            return []
        with self._file.open(newline="") as file:
            # If the run was killed while it wrote, its last line is cut.
            rows = list(csv.DictReader(line for line in file if line.endswith("\n")))
        if self._is_open or self._first_step is None:
            return rows
        return [row for row in rows if int(row["step"]) < self._first_step]


class WandB(WandbLogger):
    """Sends curves to Weights & Biases, and keeps its files in the run folder.

    With WANDB_MODE=offline in the environment, nothing is sent.

    Args:
        project: the name of the project in W&B.
        settings: other arguments of `wandb.init`, such as entity, group, tags, name or id.

    Raises:
        ConfigError: wandb is not installed.
    """

    def __init__(self, project: str = "stapo_pl", settings: dict[str, Any] | None = None) -> None:
        self._settings = settings or {}
        try:
            super().__init__(project=project, **self._settings)
        except ModuleNotFoundError:
            raise ConfigError(
                "logger=wandb needs wandb, which is not installed: pip install wandb"
            ) from None

    def place(self, folder: Path, first_step: int | None) -> None:
        """Sets the run folder. A run that resumes continues the same run in W&B."""
        name = f"{folder.parent.name}-{folder.name}"
        number = zlib.crc32(str(folder.absolute()).encode())
        ours = {"dir": str(folder), "name": name, "id": f"{number:08x}-{name}"[:64]}
        self._wandb_init |= ours | self._settings


def place(loggers: Iterable[Logger], folder: Path, first_step: int | None) -> None:
    """Makes the loggers of this project write into a run folder. Other loggers are left alone.

    Args:
        loggers: all loggers of the run.
        folder: the run folder.
        first_step: the first step that a resumed run makes. None for a new run.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoard | CSV | WandB):
            logger.place(folder, first_step)


@rank_zero_only
def log_rows(
    loggers: Iterable[Logger],
    folder: Path,
    name: str,
    rows: list[dict[str, Any]],
    text: str,
    step: int,
) -> None:
    """Logs rows as a table in W&B, and as text where there is another logger or none.

    Args:
        loggers: all loggers of the run.
        folder: the run folder.
        name: the name of the table or text.
        rows: the rows, which all have the same columns.
        text: the rows as Markdown.
        step: the optimizer step that they belong to.
    """
    others = []
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            table = wandb.Table(list(rows[0]), [list(row.values()) for row in rows])
            logger.experiment.log({name: table, _GLOBAL_STEP: step})
        else:
            others.append(logger)
    if others or not loggers:
        log_text(others, folder, name, text, step)


@rank_zero_only
def log_text(
    loggers: Iterable[Logger], folder: Path | None, name: str, text: str, step: int | None = None
) -> None:
    """Logs a text in TensorBoard and W&B, or in a file if the run has neither.

    Args:
        loggers: all loggers of the run.
        folder: the run folder. If no logger takes text, the text is added to the file NAME.md in
            it. None writes no file.
        name: the name of the text.
        text: the text, as Markdown.
        step: the optimizer step that it belongs to. None if it belongs to the whole run.
    """
    is_shown = False
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(name, text, step)
        elif isinstance(logger, WandbLogger):
            import wandb

            page = wandb.Html(f"<pre>{html.escape(text)}</pre>")
            logger.experiment.log({name: page} | ({} if step is None else {_GLOBAL_STEP: step}))
        else:
            continue
        is_shown = True
    if not is_shown and folder is not None:
        with (folder / f"{name}.md").open("a") as file:
            file.write(f"{'' if step is None else f'# Step {step}'}\n\n{text}\n\n".lstrip())
