"""The command line: Lightning's own, with a run folder, resuming and errors of one line."""

from __future__ import annotations

import inspect
import logging
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import transformers
from jsonargparse import ActionConfigFile
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.optim import Optimizer

from stapo_pl.callbacks.sampler import SamplerCallback
from stapo_pl.checkpoint import last_checkpoint, next_run_folder
from stapo_pl.datamodule import RolloutDataModule
from stapo_pl.errors import ConfigError, TrainingError
from stapo_pl.module import PolicyModule
from stapo_pl.objectives import Objective, Selection
from stapo_pl.overrides import nearest
from stapo_pl.samplers import Sampler
from stapo_pl.tasks import Task

# How jsonargparse words an unknown key, a value that is no choice, and a class that does not exist.
_UNKNOWN_KEY = re.compile(
    r"Option '([\w.]+)' is not accepted|does not accept option '([\w.]+)'|unrecognized arguments: "
    r"--([\w.]+)"
)
_NO_CHOICE = re.compile(r'Parser key "([\w.]+)": .*Literal\[(.*?)\].* [Vv]alue: (\S+)$')
_NO_CLASS = re.compile(r'Parser key "([\w.]+)": .*Expected a dot import path string: (\S+)')
_PRECISIONS = ("32-true", "32", "bf16-mixed", "64-true", "64")


@dataclass
class Run:
    """Where a run is logged.

    Args:
        name: folder of the run under `logs`; None is <objective>-<task>-seed<seed>. Each start
            makes a folder version_0, version_1, ... in it; ckpt_path=last continues the newest.
        objective: in that name; None is the class. `objective=stapo_v1` sets it to the file's name.
        logs: folder of all runs.
    """

    name: str | None = None
    objective: str | None = None
    logs: str = "logs"


class _Parser(LightningArgumentParser):
    """Reports a mistake in one line, with the nearest known name."""

    words: ClassVar[list[str]] = []
    """The command line, to name keys as they were given."""

    def error(self, message: str, ex: Exception | None = None) -> None:
        print(f"error: {self._explain(' '.join(message.split()))}", file=sys.stderr)
        sys.exit(2)

    def _explain(self, message: str) -> str:
        classes = _known_classes()
        if unknown := _UNKNOWN_KEY.search(message):
            key = next(filter(None, unknown.groups()))
            known = {action.dest for action in self._actions}
            known |= {name for cls in classes for name in inspect.signature(cls).parameters}
            return f"{self._as_given(key)}: no such key{nearest(key, known)}"
        if wrong := _NO_CHOICE.search(message):
            key, choices, value = wrong.groups()
            choices = re.findall(r"'([^']*)'", choices)
            word = f"{self._as_given(key)}={value}"
            return f"{word}: expected one of {', '.join(choices)}{nearest(value, choices)}"
        if wrong := _NO_CLASS.search(message):
            key, name = wrong.groups()
            names = {cls.__name__ for cls in classes}
            return f"{self._as_given(key)}={name}: no such class{nearest(name, names)}"
        return message

    def _as_given(self, key: str) -> str:
        """The whole key of a word of the command line that ends in `key`."""
        given = (word.lstrip("-").split("=")[0] for word in self.words)
        return next((word for word in given if f".{word}".endswith(f".{key}")), key)


def _known_classes() -> set[type]:
    """All classes that a config can name."""
    found, classes = set(), [Objective, Selection, Task, Sampler, Optimizer]
    while classes:
        cls = classes.pop()
        found.add(cls)
        classes += cls.__subclasses__()
    return found


class _SaveConfig(SaveConfigCallback):
    """Puts the resolved config into TensorBoard's text tab too."""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        text = self.parser.dump(self.config, skip_none=False)
        for logger in trainer.loggers:
            if hasattr(logger.experiment, "add_text"):
                logger.experiment.add_text("config", f"```yaml\n{text}\n```")


class StapoCLI(LightningCLI):
    """Builds module, data and trainer from configs/fit.yaml and the command line."""

    def __init__(self, args: list[str], config_dir: Path) -> None:
        super().__init__(
            PolicyModule,
            RolloutDataModule,
            args=args,
            run=False,
            save_config_callback=_SaveConfig,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            seed_everything_default=0,
            parser_kwargs={
                "parser_mode": "omegaconf+",
                "default_config_files": [str(config_dir / "fit.yaml")],
                "allow_abbrev": False,
            },
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        kwargs.pop("dump_header", None)
        parser = _Parser(**kwargs)
        parser.add_argument("-c", "--config", action=ActionConfigFile, help="A YAML file to read.")
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--ckpt_path", type=str | None, default=None, help="To resume from, or `last`."
        )
        parser.add_argument("--run", type=Run, default=Run())
        parser.add_lightning_class_args(SamplerCallback, "sampler")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        parser.set_defaults(
            {"sampler.engine": {"class_path": "stapo_pl.samplers.TransformersSampler"}}
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: list[str]) -> None:
        # Lightning's own warns whenever sys.argv and args are both there.
        _Parser.words = args
        self.config = parser.parse_args(args)

    def before_instantiate_classes(self) -> None:
        """Refuses what would fail late, and settles the run's folder and checkpoint."""
        trainer = self.config.trainer
        if trainer.precision not in (*_PRECISIONS, None):
            raise ConfigError(
                f"trainer.precision={trainer.precision} is not supported: half-precision weights "
                "lose updates as small as those of reinforcement learning; "
                f"use one of {', '.join(_PRECISIONS)}"
            )
        if trainer.max_steps not in (-1, None):
            raise ConfigError(
                f"trainer.max_steps={trainer.max_steps} is not supported, runs end with a whole "
                "rollout: set trainer.max_epochs, the number of rollouts"
            )
        if trainer.limit_train_batches not in (None, 1.0):
            raise ConfigError(
                f"trainer.limit_train_batches={trainer.limit_train_batches} is not supported, it "
                "would cut rollouts: set data.prompts_per_rollout"
            )
        if not trainer.max_epochs or trainer.max_epochs < 1:
            raise ConfigError(
                "trainer.max_epochs, the number of rollouts, must be at least 1, "
                f"got {trainer.max_epochs}"
            )
        self._settle_run()

    def _settle_run(self) -> None:
        run = self.config.run
        objective = run.objective or self.config.model.objective.class_path.rpartition(".")[2]
        task = self.config.data.task.class_path.rpartition(".")[2].lower()
        name = run.name or f"{objective.lower()}-{task}-seed{self.config.data.seed}"
        root, checkpoint = Path(run.logs) / name, self.config.ckpt_path
        if checkpoint == "last":
            self.ckpt_path = last_checkpoint(root)
        elif checkpoint is not None:
            self.ckpt_path = Path(checkpoint)
            if not self.ckpt_path.exists():
                raise ConfigError(f"ckpt_path={checkpoint}: no such checkpoint")
        else:
            self.ckpt_path = None
        # A checkpoint lies in <run folder>/checkpoints.
        self.folder = self.ckpt_path.parents[1] if self.ckpt_path else next_run_folder(root)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / ".writable").touch()
            (self.folder / ".writable").unlink()
        except OSError as error:
            raise ConfigError(
                f"run.logs={run.logs}: cannot write to {self.folder}: {error.strerror}"
            ) from error

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        if self.config.trainer.logger in (None, True):
            kwargs["logger"] = TensorBoardLogger(
                self.folder.parent.parent,
                self.folder.parent.name,
                self.folder.name,
                default_hp_metric=False,
            )
        try:
            return super().instantiate_trainer(default_root_dir=self.folder, **kwargs)
        except (ValueError, MisconfigurationException) as error:
            raise ConfigError(f"trainer: {' '.join(str(error).split())}") from error


def _quiet() -> None:
    """Keeps the console for what concerns the run."""
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    transformers.utils.logging.disable_progress_bar()
    # Lightning advertises a logger of its own at every start.
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "litlogger" not in record.getMessage()
    )


def main(args: list[str], config_dir: Path) -> None:
    """Trains; see configs/fit.yaml for what can be set."""
    _quiet()
    try:
        cli = StapoCLI(args, config_dir)
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=cli.ckpt_path)
    except (ConfigError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
