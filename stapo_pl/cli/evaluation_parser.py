"""The settings of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field

from jsonargparse import ActionConfigFile

from stapo_pl.cli.parser import HelpfulParser
from stapo_pl.core.errors import ConfigError
from stapo_pl.evaluation.verifier import Verifier
from stapo_pl.rewards import Reward
from stapo_pl.rewards.grading.grader import Grading
from stapo_pl.rollout.prompts import Duplicates, OnBadRow, PromptFormat
from stapo_pl.samplers import Sampler
from stapo_pl.tasks import Benchmark


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
        grading: how responses are judged.

    Raises:
        ConfigError: a length below 1.
    """

    max_new_tokens: int = 20480
    max_prompt_tokens: int | None = None
    on_bad_row: OnBadRow = "error"
    duplicates: Duplicates = "keep"
    prompt_format: PromptFormat = "auto"
    stop_token_ids: list[int] = field(default_factory=list)
    grading: Grading = field(default_factory=Grading)

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "max_prompt_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"data.{name} must be at least 1, got {value}")


def make_parser() -> HelpfulParser:
    """The parser of the words of an evaluation."""
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
        "--sampler.engine",
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
