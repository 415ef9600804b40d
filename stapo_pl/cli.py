"""The command line: Lightning's own, with a run folder, resuming and errors of one line."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import ActionConfigFile
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

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

# How jsonargparse words that it does not know a key.
_UNKNOWN_KEY = re.compile(
    r"Option '([\w.]+)' is not accepted|does not accept option '([\w.]+)'|unrecognized arguments: --([\w.]+)"
)
_PRECISIONS = ("32-true", "bf16-mixed", "64-true")


@dataclass
class Run:
    """Where a run is logged.

    Args:
        name: folder of the run under `logs`; None is <objective>-<task>-seed<seed>. Each start makes a folder
            version_0, version_1, ... in it; ckpt_path=last continues the newest.
        logs: folder of all runs.
    """

    name: str | None = None
    logs: str = "logs"


class _Parser(LightningArgumentParser):
    """Reports errors in one line, with the nearest known name for one that is not known."""

    def error(self, message: str, ex: Exception | None = None) -> None:
        message = " ".join(message.split())
        unknown = _UNKNOWN_KEY.search(message)
        if unknown:
            key = next(filter(None, unknown.groups()))
            known = {action.dest for action in self._actions} | _class_arguments()
            message = f"{key}: no such key{nearest(key, known)}"
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


def _class_arguments() -> set[str]:
    """Arguments of all classes that a config can name."""
    found, classes = set(), [Objective, Selection, Task, Sampler, Optimizer]
    while classes:
        cls = classes.pop()
        found |= set(inspect.signature(cls).parameters)
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
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="To resume from, or `last`.")
        parser.add_argument("--run", type=Run, default=Run())
        parser.add_lightning_class_args(SamplerCallback, "sampler")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        parser.set_defaults({"sampler.engine": {"class_path": "stapo_pl.samplers.TransformersSampler"}})

    def parse_arguments(self, parser: LightningArgumentParser, args: list[str]) -> None:
        # Lightning's own warns whenever sys.argv and args are both there.
        self.config = parser.parse_args(args)

    def before_instantiate_classes(self) -> None:
        """Refuses what would fail late, and settles the run's folder and checkpoint."""
        trainer = self.config.trainer
        if trainer.precision not in (*_PRECISIONS, None):
            raise ConfigError(
                f"trainer.precision={trainer.precision} is not supported, use one of {', '.join(_PRECISIONS)}: "
                "half-precision weights lose updates as small as those of reinforcement learning"
            )
        if trainer.max_steps not in (-1, None):
            raise ConfigError(
                f"trainer.max_steps={trainer.max_steps} is not supported: runs end with a whole rollout; "
                "set trainer.max_epochs, the number of rollouts"
            )
        if trainer.limit_train_batches not in (None, 1.0):
            raise ConfigError(
                f"trainer.limit_train_batches={trainer.limit_train_batches} is not supported: it would cut rollouts; "
                "set data.prompts_per_rollout"
            )
        if not trainer.max_epochs or trainer.max_epochs < 1:
            raise ConfigError(f"trainer.max_epochs, the number of rollouts, must be at least 1, got {trainer.max_epochs}")
        self._settle_run()

    def _settle_run(self) -> None:
        run = self.config.run
        objective = self.config.model.objective.class_path.rpartition(".")[2].lower()
        task = self.config.data.task.class_path.rpartition(".")[2].lower()
        name = run.name or f"{objective}-{task}-seed{self.config.data.seed}"
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
            raise ConfigError(f"run.logs={run.logs}: cannot write to {self.folder}: {error.strerror}") from error

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        if self.config.trainer.logger in (None, True):
            kwargs["logger"] = TensorBoardLogger(
                self.folder.parent.parent, self.folder.parent.name, self.folder.name, default_hp_metric=False
            )
        return super().instantiate_trainer(default_root_dir=self.folder, **kwargs)


def main(args: list[str], config_dir: Path) -> None:
    """Trains; see configs/fit.yaml for what can be set."""
    try:
        cli = StapoCLI(args, config_dir)
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=cli.ckpt_path)
    except (ConfigError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
