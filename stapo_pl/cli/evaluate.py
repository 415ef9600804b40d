"""The command line of an evaluation."""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import transformers
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace
from omegaconf.errors import OmegaConfBaseException

from stapo_pl.cli.checkpoints import exported, find_checkpoint
from stapo_pl.cli.grammar import EVALUATE
from stapo_pl.cli.parser import HelpfulParser, refusal
from stapo_pl.cli.words import Words
from stapo_pl.core.errors import ConfigError, TrainingError
from stapo_pl.core.seeding import check_seed
from stapo_pl.core.world import World
from stapo_pl.evaluation.decoding import Nucleus
from stapo_pl.evaluation.model import SampledModel
from stapo_pl.evaluation.paper import size_of
from stapo_pl.evaluation.records import locked
from stapo_pl.evaluation.run import BENCHMARK, Evaluation, Measurement
from stapo_pl.evaluation.verifier import Verifier
from stapo_pl.policy.model import shipped_policy
from stapo_pl.rewards import Reward
from stapo_pl.rewards.grading.grader import Grading
from stapo_pl.rollout.prompts import Duplicates, OnBadRow, PromptFormat, PromptRules
from stapo_pl.samplers import Sampler, choose_sampler
from stapo_pl.tasks import Benchmark, Task
from stapo_pl.training.runs import check_writable


@dataclass
class Data:
    """What is asked, and how long answers may be.

    Args:
        max_new_tokens: longest response.
        max_prompt_tokens: longest prompt; None is what the model's positions leave.
        on_bad_row: as in training.
        duplicates: as in training.
        prompt_format: as in training.
        stop_token_ids: as in training.

    Raises:
        ConfigError: a length below 1.
    """

    max_new_tokens: int = 20480
    max_prompt_tokens: int | None = None
    on_bad_row: OnBadRow = "error"
    duplicates: Duplicates = "keep"
    prompt_format: PromptFormat = "auto"
    stop_token_ids: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "max_prompt_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"data.{name} must be at least 1, got {value}")


def main(args: list[str], config_dir: Path) -> None:
    """Evaluates; see configs/evaluate.yaml for what can be set. `torchrun` makes several ranks."""
    transformers.utils.logging.disable_progress_bar()
    parser = make_parser(config_dir)
    try:
        config = parser.parse_args(Words(parser, EVALUATE, config_dir).check(args))
        with _ranks() as device:
            _evaluate(config, parser, device)
    except (ConfigError, OmegaConfBaseException) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def make_parser(config_dir: Path) -> HelpfulParser:
    """Of the words of an evaluation."""
    parser = HelpfulParser(
        parser_mode="omegaconf+",
        allow_abbrev=False,
        description="Measures a policy on benchmarks.",
    )
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="A YAML file to read.")
    parser.add_argument(
        "--seed_everything", type=int, default=0, help="Of everything that is drawn."
    )
    parser.add_argument(
        "--model.path",
        type=str | None,
        default=None,
        help="A model folder, hub name, checkpoint, folder of a run, or `last`; null is the policy "
        "that comes with the package.",
    )
    parser.add_argument(
        "--benchmarks", type=dict[str, Benchmark], default={}, help="What is measured on, by name."
    )
    parser.add_argument(
        "--reward",
        type=Reward | None,
        default=None,
        sub_configs=True,
        help="Judges in place of the benchmarks' own.",
    )
    parser.add_argument(
        "--decodings", type=list[tuple[float, float]], help="Temperature and top-p of each."
    )
    parser.add_argument("--data", type=Data, default=Data())
    parser.add_argument(
        "--sampler",
        type=Sampler | None,
        default=None,
        sub_configs=True,
        help="What samples; null is vLLM on a GPU where it is installed, else transformers.",
    )
    parser.add_argument(
        "--samples_per_write",
        type=int,
        default=1024,
        help="Samples between two writes, on each rank.",
    )
    parser.add_argument("--grading", type=Grading, default=Grading())
    parser.add_argument(
        "--verifier",
        type=Verifier | None,
        default=None,
        help="A model that is asked about what the rule rejects.",
    )
    parser.add_argument(
        "--run.name",
        type=str | None,
        default=None,
        help="Folder under run.logs; null is evaluate-<model>.",
    )
    parser.add_argument(
        "--run.logs", type=str, default="logs", help="Folder of all runs and evaluations."
    )
    parser.add_argument(
        "--grade",
        type=str | None,
        default=None,
        help="Folder of an evaluation to judge again; nothing is sampled.",
    )
    return parser


def _evaluate(config: Namespace, parser: HelpfulParser, device: torch.device) -> None:
    label = _label(config.reward)
    specs = {name: spec.as_dict() for name, spec in config.benchmarks.items()}
    if config.grade is not None and specs:
        raise ConfigError(
            "grade judges everything that was sampled in the folder; it takes no benchmark"
        )
    settings = _instantiated(parser, config)
    _check(settings)
    judge = settings.verifier and SampledModel(
        settings.verifier.path,
        "verifier.path",
        _engine(settings.verifier.engine, device),
        device,
        settings.verifier.max_new_tokens,
        "verifier.max_new_tokens",
    )
    if settings.grade:
        folder = Path(settings.grade)
        measurements = _recorded(folder)
    else:
        path, called = _model(settings.model.path, settings.run.logs)
        folder = Path(settings.run.logs) / (settings.run.name or f"evaluate-{called}")
        measurements = [
            Measurement(
                name, Nucleus(*pair), benchmark.samples, benchmark.task.reward, specs[name]["task"]
            )
            for name, benchmark in settings.benchmarks.items()
            for pair in settings.decodings
        ]
    if settings.reward is not None:
        for measured in measurements:
            measured.reward = settings.reward
    evaluation = Evaluation(
        folder, measurements, label, settings.seed_everything, settings.samples_per_write
    )
    if not settings.grade:
        check_writable(Path(settings.run.logs))
        with locked(folder) if World().rank == 0 else nullcontext():
            _sample(evaluation, settings, device, path)
    evaluation.grade(settings.grading)
    if judge is not None:
        with closing(judge):
            evaluation.verify(settings.verifier, judge)
    if World().rank == 0:
        size = size_of(json.loads(evaluation.model_file.read_text())["parameters"])
        print(f"\n{evaluation.report(size)}\n")
        if judge is not None:
            print(f"with what the verifier accepts:\n\n{evaluation.report(size, verified=True)}\n")
        print(f"completions, scores and these figures: {folder}")
        print(f"to grade them again: stapo evaluate grade={folder}")


def _model(given: str | None, logs: str) -> tuple[str, str]:
    """Folder or hub name of what is measured, and what it is called.

    A checkpoint becomes a model folder in its run's, on the first rank.
    """
    given = given or str(shipped_policy())
    if (checkpoint := find_checkpoint(given, logs)) is None:
        return given, Path(given).name
    world, run = World(), checkpoint.absolute().parents[1]
    if world.rank == 0:
        out = exported(checkpoint)
        print(f"model           {checkpoint}, exported to {out}")
    world.barrier()
    return str(exported(checkpoint)), f"{run.parent.name}-{run.name}-{checkpoint.stem}"


def _sample(evaluation: Evaluation, settings: Namespace, device: torch.device, path: str) -> None:
    """Samples from the model of the path."""
    data, engine = settings.data, _engine(settings.sampler, device)
    model = SampledModel(
        path,
        "model.path",
        engine,
        device,
        data.max_new_tokens,
        "data.max_new_tokens",
        data.stop_token_ids,
    )
    if World().rank == 0:
        print(f"ends at         {model.end_tokens}")
    rules = PromptRules(
        min(data.max_prompt_tokens or model.max_prompt_tokens, model.max_prompt_tokens),
        data.on_bad_row,
        data.duplicates,
        data.prompt_format,
    )
    tasks = {name: benchmark.task for name, benchmark in settings.benchmarks.items()}
    with closing(model):
        evaluation.sample(tasks, model, rules)


def _recorded(folder: Path) -> list[Measurement]:
    """What an earlier evaluation measured; neither rows nor model have to be there.

    Raises:
        ConfigError: the folder is none of an evaluation.
    """
    files = sorted(folder.glob(f"*/*/{BENCHMARK}"))
    if not files:
        raise ConfigError(f"grade={folder}: not the folder of an evaluation that was sampled")
    measurements = []
    for file in files:
        content = json.loads(file.read_text())
        task, decoding = content["task"], Nucleus(content["temperature"], content["top_p"])
        spec = (task.get("init_args") or {}).get("reward")
        # A task that names none has its own: then it has to be made, with its rows at hand.
        reward = _built(Reward, spec) if spec else _built(Task, task).reward
        name = file.parent.parent.name
        measurements.append(Measurement(name, decoding, content["samples"], reward, task))
    return measurements


def _label(reward: Namespace | None) -> str:
    """Of the files of a reward in place of the benchmarks' own."""
    if reward is None:
        return ""
    settings = json.dumps(reward.get("init_args", Namespace()).as_dict(), sort_keys=True)
    suffix = "" if settings == "{}" else f"-{zlib.crc32(settings.encode()):08x}"
    return f"-{reward.class_path.rpartition('.')[2].lower()}{suffix}"


def _check(settings: Namespace) -> None:
    """Refuses what would fail late.

    Raises:
        ConfigError: names the setting.
    """
    if not settings.benchmarks and not settings.grade:
        raise ConfigError("benchmark: say what to measure on, benchmark=all or benchmark=NAME,NAME")
    check_seed(settings.seed_everything)
    if settings.samples_per_write < 1:
        raise ConfigError(f"samples_per_write must be at least 1, got {settings.samples_per_write}")
    if not settings.decodings or len(set(settings.decodings)) < len(settings.decodings):
        raise ConfigError(
            "decodings: expected at least one [temperature, top-p], each once, got "
            f"{[*map(list, settings.decodings)]}"
        )


def _instantiated(parser: HelpfulParser, config: Namespace) -> Namespace:
    try:
        return parser.instantiate(config)
    except ValueError as error:
        raise ConfigError(refusal(error) or str(error)) from error


def _built(kind: type, spec: Any) -> Any:
    """An object of a class that is named in a config."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--it", type=kind)
    return parser.instantiate(parser.parse_object({"it": spec})).it


def _engine(engine: Sampler | None, device: torch.device) -> Sampler:
    """The sampler that was asked for, or one that fits.

    Raises:
        ConfigError: it is not installed.
    """
    if engine is None:
        engine, choice = choose_sampler(device)
        if World().rank == 0:
            print(f"sampler         {choice}")
    elif missing := engine.missing():
        raise ConfigError(missing)
    return engine


@contextmanager
def _ranks() -> Iterator[torch.device]:
    """The device of this rank; where torchrun started several, they find each other."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device(f"cuda:{local}" if torch.cuda.is_available() else "cpu")
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield device
        return
    # One rank grades while the others wait.
    dist.init_process_group("gloo", timeout=timedelta(days=7))
    try:
        yield device
    finally:
        dist.destroy_process_group()
