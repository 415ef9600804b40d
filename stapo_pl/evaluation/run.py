"""An evaluation from prompts to report. Each step reads what the step before wrote to disk."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Decoding, Problem, Prompt
from stapo_pl.core.world import World
from stapo_pl.evaluation.figures import benchmark_figures
from stapo_pl.evaluation.model import SampledModel, count_parameters
from stapo_pl.evaluation.progress import bar
from stapo_pl.evaluation.records import (
    Place,
    check_same,
    read_accepted,
    read_completions,
    read_problems,
    read_scores,
    write,
    write_problems,
    write_scores,
    write_verdicts,
)
from stapo_pl.evaluation.report import in_order, table, with_paper
from stapo_pl.evaluation.sampling import SampleSet
from stapo_pl.evaluation.verifier import Verifier, read_verdict
from stapo_pl.rewards.base import Reward
from stapo_pl.rewards.grading.grader import Grader, Grading
from stapo_pl.rollout.prompts import PromptRules, check_embedded, make_prompts, render, uses_chat
from stapo_pl.tasks.base import Task

BENCHMARK, PROBLEMS = "benchmark.json", "problems.jsonl"


@dataclass
class Measurement:
    """A benchmark that is sampled with one decoding.

    Args:
        benchmark: the name of the benchmark.
        decoding: the distribution that completions are drawn from.
        samples: the number of completions of each problem.
        reward: the reward that judges the responses.
        task: the settings of the task, which are written to disk for a later grading.
    """

    benchmark: str
    decoding: Decoding
    samples: int
    reward: Reward
    task: dict[str, Any]

    @property
    def title(self) -> str:
        return f"{self.benchmark} {self.decoding.name}"

    def places(self, problems: int) -> list[Place]:
        return list(product(range(problems), range(self.samples)))


@dataclass
class Evaluation:
    """The measurements of an evaluation, and the folder that it writes to.

    Args:
        folder: the folder of all its files.
        measurements: the benchmarks and decodings that are measured.
        label: an ending of the names of files with scores, if another reward is used.
        seed: the seed of all random choices.
        chunk: the number of samples that each rank makes between two writes.
    """

    folder: Path
    measurements: list[Measurement]
    label: str = ""
    seed: int = 0
    chunk: int = 1024
    world: ClassVar = World()

    def sample(self, tasks: dict[str, Task], model: SampledModel, rules: PromptRules) -> None:
        """Samples the completions that are not on disk yet.

        Args:
            tasks: the task of each benchmark, by the benchmark's name.
            model: the model to sample from.
            rules: which problems become prompts.

        Raises:
            ConfigError: a benchmark cannot be read, or the files have other settings.
        """
        about = model.about | {"seed": self.seed}
        if self.model_file.exists():
            check_same(self.model_file, json.loads(self.model_file.read_text()), about)
        prompts: dict[str, list[Prompt]] = {}
        for name, task in tasks.items():
            found = task.validation_problems()
            prompts[name], counts = make_prompts(found, model.tokenizer, rules, name)
            rendered = (prompt.token_ids for prompt in prompts[name])
            vocabulary = model.config.get_text_config().vocab_size
            check_embedded(rendered, model.tokenizer, vocabulary, name)
            if self.world.rank == 0:
                print(f"{name:<15} {counts.describe(rules)}")
        work: list[tuple[SampleSet, list[Place]]] = []
        for measured in self.measurements:
            ids = [prompt.token_ids for prompt in prompts[measured.benchmark]]
            model.longest_prompt = max(model.longest_prompt, *map(len, ids))
            samples = SampleSet(
                measured.title,
                self._folder(measured),
                partial(_prompt_ids, ids),
                {"prompts (their checksum)": zlib.crc32(repr(ids).encode())},
                measured.decoding,
                model,
                self.seed,
            )
            work.append((samples, samples.missing(measured.places(len(ids)))))
        if self.world.rank == 0:
            about["parameters"] = count_parameters(model.config)
            write(self.model_file, json.dumps(about, indent=1))
            for measured in self.measurements:
                folder = self._folder(measured)
                problems = [prompt.problem for prompt in prompts[measured.benchmark]]
                write_problems(folder / PROBLEMS, problems)
                content = {
                    "task": measured.task,
                    "samples": measured.samples,
                    "temperature": measured.decoding.temperature,
                    "top_p": measured.decoding.top_p,
                }
                write(folder / BENCHMARK, json.dumps(content, indent=1))
        self._complete(work)

    def grade(self, grading: Grading) -> None:
        """Gives every response a score by the reward of its benchmark.

        Raises:
            ConfigError: some completions are missing.
            TrainingError: a reward raised an error.
        """
        if self.world.rank == 0:
            total = sum(len(self._places(measured)) for measured in self.measurements)
            rewards = [measured.reward for measured in self.measurements]
            with (
                Grader(rewards, grading, self.folder) as grader,
                bar(total, "answers", True) as progress,
            ):
                for measured in self.measurements:
                    progress.part(f"grade {measured.title}")
                    problems = self._problems(measured)
                    places = measured.places(len(problems))
                    scores = grader.grade(
                        measured.reward,
                        read_completions(self._folder(measured), places),
                        [problems[number] for number, _ in places],
                        lambda done, total: progress.show(done),
                    )
                    progress.show(len(places))
                    write_scores(self._scores(measured), places, scores)
        self.world.barrier()

    def verify(self, verifier: Verifier, model: SampledModel) -> None:
        """Asks the verifier once about each response that the reward calls wrong.

        Raises:
            ConfigError: a prompt of the verifier is longer than its model can read.
        """
        work: list[tuple[SampleSet, list[Place]]] = []
        places_of: list[list[Place]] = []
        is_chat = uses_chat(model.tokenizer, "auto")
        cut = 0
        for measured in self.measurements:
            rejected = self._rejected(measured)
            problems = self._problems(measured)
            responses = read_completions(self._folder(measured), rejected)
            prompts: dict[Place, list[int]] = {}
            for place, response in zip(rejected, responses, strict=True):
                asked = verifier.ask(problems[place[0]], response)
                ids = render(asked, model.tokenizer, is_chat)
                # With the checksum, a reply to an earlier wording does not count.
                prompts[*place, zlib.crc32(repr(ids).encode())] = ids
                cut += verifier.cuts(response)
            model.longest_prompt = max(model.longest_prompt, *map(len, prompts.values()), 0)
            if model.longest_prompt > model.max_prompt_tokens:
                raise ConfigError(
                    f"verifier: a prompt has {model.longest_prompt} tokens, {model.path} has room "
                    f"for {model.max_prompt_tokens}; lower verifier.max_response_characters"
                )
            samples = SampleSet(
                f"verifier {measured.title}",
                self._verifier(measured),
                prompts.__getitem__,
                {},
                Decoding(verifier.max_new_tokens, temperature=0.0),
                model,
                seed=0,
            )
            places_of.append(list(prompts))
            work.append((samples, samples.missing(places_of[-1])))
        if self.world.rank == 0 and cut:
            print(f"verifier        sees only the end of {cut} long responses")
        self._complete(work)
        if self.world.rank == 0:
            for measured, places in zip(self.measurements, places_of, strict=True):
                replies = read_completions(self._verifier(measured), places)
                write_verdicts(self._verdicts(measured), places, map(read_verdict, replies))

    def report(self, size: str | None, verified: bool = False) -> str:
        """Writes the figures of all benchmarks to results.json and results.md.

        Earlier figures of other benchmarks or decodings stay there. The table is returned.

        Args:
            size: the size of the paper's model to compare with, or None.
            verified: whether responses that the verifier accepts count as right. These figures go
                to files with other names.
        """
        file = self.folder / f"results{self.label}{'-verified' * verified}.json"
        earlier = json.loads(file.read_text()) if file.exists() else []
        results = {(row["benchmark"], row["decoding"]): row for row in earlier}
        for measured in self.measurements:
            places, k = self._places(measured), measured.samples
            scores = read_scores(self._scores(measured))
            result: dict[str, Any] = {}
            if verified:
                accepted = read_accepted(self._verdicts(measured))
                scores = [
                    replace(score, correct=True, reason="the verifier accepts it")
                    if place in accepted
                    else score
                    for place, score in zip(places, scores, strict=True)
                ]
                result["accepted_by_verifier"] = len(accepted)
            responses = read_completions(self._folder(measured), places)
            starts = range(0, len(places), k)
            result = (
                benchmark_figures(
                    [responses[i : i + k] for i in starts], [scores[i : i + k] for i in starts]
                )
                | result
            )
            row = with_paper(result, size, measured.benchmark, measured.decoding)
            results[measured.benchmark, measured.decoding.name] = row
        rows = in_order(results.values())
        text = table(rows, size)
        write(file, json.dumps(rows, indent=1))
        write(file.with_suffix(".md"), text + "\n")
        return text

    @property
    def model_file(self) -> Path:
        return self.folder / "model.json"

    def _complete(self, work: Sequence[tuple[SampleSet, list[Place]]]) -> None:
        self.world.barrier()  # no rank may write before all have read which places are missing
        total = sum(len(missing) for _, missing in work)
        if total:
            with bar(total, "samples", self.world.rank == 0) as progress:
                for samples, missing in work:
                    if missing:
                        progress.part(samples.name)
                        samples.complete(missing, self.chunk, progress.show)
        self.world.barrier()

    def _rejected(self, measured: Measurement) -> list[Place]:
        scores = read_scores(self._scores(measured))
        places = zip(self._places(measured), scores, strict=True)
        return [place for place, score in places if not score.correct]

    def _places(self, measured: Measurement) -> list[Place]:
        return measured.places(len(self._problems(measured)))

    def _problems(self, measured: Measurement) -> list[Problem]:
        return read_problems(self._folder(measured) / PROBLEMS)

    def _folder(self, measured: Measurement) -> Path:
        return self.folder / measured.benchmark / measured.decoding.name

    def _verifier(self, measured: Measurement) -> Path:
        return self._folder(measured) / "verifier"

    def _scores(self, measured: Measurement) -> Path:
        return self._folder(measured) / f"scores{self.label}.jsonl"

    def _verdicts(self, measured: Measurement) -> Path:
        return self._verifier(measured) / f"verdicts{self.label}.jsonl"


def _prompt_ids(ids: Sequence[list[int]], place: Place) -> list[int]:
    """Returns the prompt of a sample, which depends only on the number of the problem."""
    return ids[place[0]]
