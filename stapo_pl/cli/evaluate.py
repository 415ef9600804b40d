"""The command `stapo evaluate`, which measures a policy on benchmarks."""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import transformers
from jsonargparse import ArgumentParser, Namespace
from omegaconf.errors import OmegaConfBaseException

from stapo_pl.cli.checkpoints import exported, find_checkpoint
from stapo_pl.cli.evaluation_parser import make_parser
from stapo_pl.cli.grammar import EVALUATE
from stapo_pl.cli.parser import HelpfulParser, refusal
from stapo_pl.cli.words import Words
from stapo_pl.core.errors import ConfigError, TrainingError
from stapo_pl.core.seeding import check_seed
from stapo_pl.core.types import Decoding
from stapo_pl.core.world import World
from stapo_pl.evaluation.model import SampledModel
from stapo_pl.evaluation.paper import size_of
from stapo_pl.evaluation.records import locked
from stapo_pl.evaluation.run import BENCHMARK, Evaluation, Measurement
from stapo_pl.policy.model import shipped_policy
from stapo_pl.rewards import Reward
from stapo_pl.rollout.prompts import PromptRules
from stapo_pl.samplers import Sampler, choose_sampler
from stapo_pl.tasks import Task
from stapo_pl.training.runs import check_writable


def main(args: list[str], config_dir: Path) -> None:
    """Runs `stapo evaluate`. All settings are in configs/evaluate.yaml.

    Start the command with `torchrun` to use several ranks.

    Args:
        args: the words of the command line, as flags.
        config_dir: the folder of the YAML files.
    """
    transformers.utils.logging.disable_progress_bar()
    parser = make_parser()
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
                name,
                _decoding(temperature, top_p, settings.data.max_new_tokens),
                benchmark.samples,
                benchmark.task.reward,
                specs[name]["task"],
            )
            for name, benchmark in settings.benchmarks.items()
            for temperature, top_p in settings.decodings
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
    evaluation.grade(settings.data.grading)
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
    """Returns the model folder or hub name that is measured, and a name for the evaluation.

    If a checkpoint is given, the first rank exports it into its run folder.
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
    """Builds the model of a folder or hub name, and samples what the evaluation needs."""
    data, engine = settings.data, _engine(settings.sampler.engine, device)
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
    """Returns what an earlier evaluation measured. Neither its data nor its model is needed.

    Raises:
        ConfigError: the folder is not the folder of an evaluation.
    """
    files = sorted(folder.glob(f"*/*/{BENCHMARK}"))
    if not files:
        raise ConfigError(f"grade={folder}: not the folder of an evaluation that was sampled")
    measurements = []
    for file in files:
        content = json.loads(file.read_text())
        task = content["task"]
        # Nothing is sampled again, so the length limit does not matter.
        decoding = _decoding(content["temperature"], content["top_p"], max_new_tokens=0)
        spec = (task.get("init_args") or {}).get("reward")
        # If the task names no reward, it has one of its own, and the task must be made to get it.
        reward = _built(Reward, spec) if spec else _built(Task, task).reward
        name = file.parent.parent.name
        measurements.append(Measurement(name, decoding, content["samples"], reward, task))
    return measurements


def _decoding(temperature: float, top_p: float, max_new_tokens: int) -> Decoding:
    """Returns the decoding of a benchmark.

    Raises:
        ConfigError: a value is out of range.
    """
    if not temperature >= 0 or not 0 < top_p <= 1:
        raise ConfigError(
            f"decodings need temperature >= 0 and 0 < top-p <= 1, got [{temperature:g}, {top_p:g}]"
        )
    return Decoding(max_new_tokens, temperature, top_p)


def _label(reward: Namespace | None) -> str:
    """Returns the ending of the names of files with scores, if another reward is used."""
    if reward is None:
        return ""
    settings = json.dumps(reward.get("init_args", Namespace()).as_dict(), sort_keys=True)
    suffix = "" if settings == "{}" else f"-{zlib.crc32(settings.encode()):08x}"
    return f"-{reward.class_path.rpartition('.')[2].lower()}{suffix}"


def _check(settings: Namespace) -> None:
    """Checks settings that would otherwise fail only later.

    Raises:
        ConfigError: a setting is wrong. The message names it.
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
    """Makes an object of the class that a config names."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--it", type=kind)
    return parser.instantiate(parser.parse_object({"it": spec})).it


def _engine(engine: Sampler | None, device: torch.device) -> Sampler:
    """Returns the given sampler, or chooses one that fits the device.

    Raises:
        ConfigError: the package that the given sampler needs is not installed.
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
    """Gives the device of this rank. If torchrun has started several ranks, it connects them."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device(f"cuda:{local}" if torch.cuda.is_available() else "cpu")
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield device
        return
    # One rank grades while the others wait, which can take days. Otherwise they would time out.
    dist.init_process_group("gloo", timeout=timedelta(days=7))
    try:
        yield device
    finally:
        dist.destroy_process_group()
