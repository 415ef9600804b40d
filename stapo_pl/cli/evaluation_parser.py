"""The parser of `stapo evaluate`, which defines all settings of an evaluation."""

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
    """How prompts are made, how long responses may be, and how they are graded.

    Args:
        max_new_tokens: the largest number of tokens of a response.
        max_prompt_tokens: the largest number of tokens of a prompt. None allows all positions of
            the model that a response does not need.
        on_bad_row: what happens to rows that cannot be read and to prompts that are too long:
            `error` stops, `skip` leaves them out.
        duplicates: what happens to rows that ask the same as an earlier one: `keep`, `drop` or
            `error`.
        prompt_format: `chat` uses the tokenizer's chat template, `plain` writes plain text for base
            models, and `auto` uses the template if there is one.
        stop_token_ids: tokens that end a response, in addition to those that the model's files
            name.
        grading: the settings of grading, such as time limits.

    Raises:
        ConfigError: a length is below 1.
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
    """Returns the parser of `stapo evaluate`."""
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
