"""The command `stapo fit`: Lightning's command line with run folders, resuming and short errors."""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import lightning as L
import transformers
import yaml
from jsonargparse import ActionConfigFile
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf.errors import OmegaConfBaseException

from stapo_pl.cli.grammar import FIT
from stapo_pl.cli.naming import run_name, usual
from stapo_pl.cli.parser import OWN_KEYS, HelpfulParser, refusal
from stapo_pl.cli.plan import print_plan
from stapo_pl.cli.resuming import changes_since, check_same_run, describe_changes
from stapo_pl.cli.save_config import CONFIG_CALLBACK
from stapo_pl.cli.words import Words
from stapo_pl.core.errors import ConfigError, Terminated, TrainingError
from stapo_pl.core.seeding import check_seed
from stapo_pl.training.callbacks.insight import Insight
from stapo_pl.training.callbacks.sampler import SamplerCallback
from stapo_pl.training.datamodule import RolloutDataModule
from stapo_pl.training.module import PolicyModule
from stapo_pl.training.private import is_first_process
from stapo_pl.training.runs import Run, why_not_written
from stapo_pl.training.signals import end_on_sigterm
from stapo_pl.training.start import Start
from stapo_pl.training.strategy import FSDP
from stapo_pl.training.trainer import RolloutTrainer
from stapo_pl.training.trainer_checks import check_strategy
from stapo_pl.training.workload import Estimate

# The help of flags for which Lightning has none.
_WORDS = {
    "trainer.accelerator": "What computes: auto, cpu or gpu.",
    "trainer.strategy": "How ranks share the work: auto, or trainer=ddp, trainer=fsdp.",
}
# Lightning also takes `true`, and then chooses a seed itself. That run could not be repeated.
KINDS = {"seed_everything": int}


class StapoCLI(LightningCLI):
    """Makes module, data module and trainer from configs/fit.yaml and the command line."""

    trainer: RolloutTrainer

    def __init__(self, args: list[str], config_dir: Path) -> None:
        self.config_dir = config_dir
        self.start: Start | None = None
        try:
            super().__init__(
                PolicyModule,
                RolloutDataModule,
                args=args,
                run=False,
                trainer_class=RolloutTrainer,
                save_config_callback=CONFIG_CALLBACK,
                save_config_kwargs={"overwrite": True},
                auto_configure_optimizers=False,
                seed_everything_default=0,
                parser_kwargs={
                    "parser_mode": "omegaconf+",
                    "allow_abbrev": False,
                    "description": "Trains a policy with verifiable rewards.",
                },
            )
        except BaseException:
            if self.start is not None:
                self.start.leave_nothing()
            raise

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.start.folder

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        kwargs.pop("dump_header", None)
        parser = HelpfulParser(**kwargs)
        parser.add_argument("-c", "--config", action=ActionConfigFile, help="A YAML file to read.")
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--ckpt_path", type=str | None, default=None, help="To resume from, or `last`."
        )
        parser.add_argument(
            "--plan",
            action="store_true",
            help="Print what a run takes of memory and time, and exit.",
        )
        for key, kind in zip(OWN_KEYS, (Run, Insight), strict=True):
            parser.add_argument(f"--{key}", type=kind, default=kind())
        parser.add_argument("--estimate", type=Estimate, default=Estimate())
        parser.add_lightning_class_args(SamplerCallback, "sampler")
        for action in parser._actions:
            action.help = action.help or _WORDS.get(action.dest)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def parse_arguments(  # type: ignore[override]  # the command always passes words
        self, parser: LightningArgumentParser, args: list[str]
    ) -> None:
        # This does not call Lightning's method, which warns if sys.argv and args are both there.
        words = Words(parser, FIT, self.config_dir, KINDS)
        self.config, self.given = parser.parse_args(words.check(args)), words.given
        as_usual = usual(args, self.config.run.experiment, self.config_dir)
        words = Words(parser, FIT, self.config_dir, KINDS)
        self.usual = parser.parse_args(words.check(as_usual))
        check_seed(self.config.seed_everything)

    def before_instantiate_classes(self) -> None:
        """Checks settings that would fail late, and finds the run folder and the checkpoint."""
        strategy = self.config.trainer.strategy
        if path := getattr(strategy, "class_path", None):
            strategy = resolve_name(path)
        # Some strategies cannot be made here, and would say something else.
        check_strategy(strategy)
        if self.config.plan:
            print_plan(self.config)
            sys.exit(0)
        run, data = self.config.run, self.config.data
        objective = run.objective or self.config.model.objective.class_path.rpartition(".")[2]
        task = run.task or data.task.class_path.rpartition(".")[2]
        parts = (run.experiment and Path(run.experiment).stem, objective, task)
        name = run.name or run_name(
            parts, data.seed, self.given, self.config.as_dict(), self.usual.as_dict()
        )
        is_sharded = isinstance(strategy, type) and issubclass(strategy, FSDP)
        start = Start.find(Path(run.logs) / name, self.config.ckpt_path, is_sharded)
        if start.checkpoint is not None:
            self._check_changes(start.checkpoint, start.first_step)
        start.settle()
        self.start = start

    def _check_changes(self, checkpoint: Path, step: int | None) -> None:
        """Checks that a run may resume with these settings, and prints what has changed."""
        run = checkpoint.parent.parent
        if not (run / "config.yaml").is_file():
            changed = "there is no config.yaml beside it, so it is not known what changed since"
        else:
            settings = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
            changes = changes_since(run, settings)
            if self.config.ckpt_path == "last":
                check_same_run(run, changes)
            changed = describe_changes(changes)
        if is_first_process():
            print(f"goes on     from step {step}, {checkpoint}; {changed}")

    def fit(self) -> None:
        """Trains."""
        self.trainer.fit(self.model, self.datamodule, self.start)

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:
            if reason := refusal(error):
                raise ConfigError(reason) from error
            raise

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        try:
            own = {key: self.config_init[key] for key in OWN_KEYS}
            return super().instantiate_trainer(**own, **kwargs)
        except ConfigError:
            raise
        except (ValueError, TypeError, ImportError, MisconfigurationException) as error:
            raise ConfigError(f"trainer: {' '.join(str(error).split())}") from error


def _quiet() -> None:
    """Hides warnings that do not concern the user of a run."""
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    # vLLM's scan of all modules touches deprecated names.
    warnings.filterwarnings("ignore", message=".*reduce_op.*", category=FutureWarning)
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    # The schedule may step before the optimizer, because the first optimizer step can be skipped.
    warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
    transformers.utils.logging.disable_progress_bar()
    # The policy is in evaluation mode on purpose, so that there is no dropout. See PolicyModule.
    warnings.filterwarnings("ignore", message="Found .* in eval mode at the start of training")
    # Lightning advertises a logger of its own at every start.
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "litlogger" not in record.getMessage()
    )


def main(args: list[str], config_dir: Path) -> None:
    """Runs `stapo fit`. All settings are in configs/fit.yaml."""
    _quiet()
    end_on_sigterm()
    cli: StapoCLI | None = None
    try:
        cli = StapoCLI(args, config_dir)
        cli.fit()
    except (ConfigError, MisconfigurationException, OmegaConfBaseException) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except Terminated:
        sys.exit(128 + signal.SIGTERM)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if (reason := why_not_written(error, None if cli is None else cli.folder)) is None:
            raise
        print(f"error: {reason}", file=sys.stderr)
        sys.exit(1)
