"""Answers judged per second: a plain loop over math-verify beside worker processes.

python scripts/benchmark_grading.py FOLDER

FOLDER holds the six evaluation sets as files in any of the formats of `task.path`. Each gold answer
is judged with a blank before it, so that it is not the same text and has to be computed.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from math_verify import parse, verify

from stapo_pl.core.types import Problem
from stapo_pl.evaluation.paper import PAPER_BENCHMARKS
from stapo_pl.rewards import Math, Response
from stapo_pl.rewards.answers.boxed import last_boxed
from stapo_pl.rewards.grading.grader import Grader, Grading
from stapo_pl.tasks import Dataset


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--turns", type=int, default=5, help="of each, one after another")
    args = parser.parse_args()
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    problems = [
        Problem([], last_boxed(problem.answer) or problem.answer)
        for name in PAPER_BENCHMARKS
        for problem in Dataset(str(args.folder), name=name, validation_size=None)
        .validation_problems()
        .problems
    ]
    responses = [Response(rf"\boxed{{\,{problem.answer}}}") for problem in problems]
    reward = Math()
    reward.prepare()

    def plain() -> int:
        return sum(
            verify(
                parse(rf"\boxed{{{problem.answer}}}", parsing_timeout=None),
                parse(response.text, parsing_timeout=None),
                timeout_seconds=None,
            )
            for response, problem in zip(responses, problems, strict=True)
        )

    def in_place() -> int:
        pairs = zip(responses, problems, strict=True)
        return sum(reward.score(response, problem).correct for response, problem in pairs)

    with (
        tempfile.TemporaryDirectory() as folder,
        Grader([reward], Grading(workers=1), Path(folder)) as one,
        Grader([reward], Grading(workers=2), Path(folder)) as two,
    ):

        def workers(grader: Grader) -> Callable[[], int]:
            return lambda: sum(s.correct for s in grader.grade(reward, responses, problems))

        ways = {
            "math-verify, a plain loop": plain,
            "the reward, in place": in_place,
            "the reward, 1 worker": workers(one),
            "the reward, 2 workers": workers(two),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        right = {name: judge() for name, judge in ways.items()}  # and everything is warm
        for _ in range(args.turns):
            for name, judge in ways.items():
                start = time.perf_counter()
                judge()
                seconds[name].append(time.perf_counter() - start)
    base = median(seconds["math-verify, a plain loop"])
    print("| way | answers/s | ratio | right |\n|---|---|---|---|")
    for name, turns in seconds.items():
        middle = median(turns)
        rate, ratio = len(problems) / middle, base / middle
        print(f"| {name} | {rate:.0f} | {ratio:.2f} | {right[name]} of {len(problems)} |")


if __name__ == "__main__":
    main()
