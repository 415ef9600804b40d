"""What it costs to show and keep tokens.

    python scripts/benchmark_records.py

First, the file of 2.2 million random tokens of 256 responses. Then the first rollouts of the
default run, with the insight and without it in turns: the time that it takes itself, and the times
of the two side by side.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import lightning as L
import torch

from stapo_pl.cli.configs import config_dir
from stapo_pl.cli.fit import StapoCLI
from stapo_pl.cli.grammar import expand
from stapo_pl.core.batches import MiniBatch, RolloutBatch, Tokens, TokenStatistics
from stapo_pl.core.types import Completion, Problem, Prompt, Rollout, Score, Trajectory
from stapo_pl.insight import records
from stapo_pl.insight.recorder import Recorder, RecordFiles
from stapo_pl.insight.rows import token_columns
from stapo_pl.training.callbacks import TokenInsight
from stapo_pl.training.events import Events, MiniBatchDone, RolloutCollected, RolloutDone
from stapo_pl.training.parts import Parts


class Timed(TokenInsight):
    """The insight, with the seconds that it takes itself."""

    own = 0.0

    def connect(self, parts: Parts) -> None:
        heard = Events()
        super().connect(Parts(parts.module, parts.data, heard))
        for kind in (RolloutCollected, MiniBatchDone, RolloutDone):
            parts.events.listen(kind, lambda event: self._pass_on(heard, event))

    def _pass_on(self, heard: Events, event: object) -> None:
        start = time.perf_counter()
        heard.tell(event)
        self.own += time.perf_counter() - start


class Clock(L.Callback):
    """The seconds of all rollouts of a run, without its start and its end."""

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if trainer.current_epoch == 0:
            self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.seconds = time.perf_counter() - self.start


def run(rollouts: int, insight: Timed | None) -> float:
    """Returns the seconds of some rollouts, which are the same ones every time."""
    with tempfile.TemporaryDirectory() as logs:
        words = [
            "objective=stapo", f"run.logs={logs}", f"trainer.max_epochs={rollouts}",
            "trainer.limit_val_batches=0", "run.checkpoint_every=999",
            "trainer.enable_progress_bar=false", "trainer.without=[TokenInsight,RunSummary]",
        ]  # fmt: skip
        cli, clock = StapoCLI(expand(words, config_dir()), config_dir()), Clock()
        cli.trainer.callbacks += [clock, *([] if insight is None else [insight])]
        cli.fit()
    return clock.seconds


def default_run(pairs: int, rollouts: int) -> None:
    run(rollouts, None)  # warms up
    shares, ratios = [], []
    for pair in range(pairs):
        insight, seconds = Timed(), {}
        for is_on in (True, False) if pair % 2 else (False, True):
            seconds[is_on] = run(rollouts, insight if is_on else None)
        shares.append(insight.own / seconds[True])
        ratios.append(seconds[True] / seconds[False] - 1)
    draws = torch.tensor(ratios)
    means = draws[torch.randint(pairs, (10_000, pairs))].mean(1)
    low, high = means.quantile(torch.tensor([0.025, 0.975])).tolist()
    print(f"own time: {statistics.median(shares):.2%} of a rollout (median of {pairs} runs)")
    print(f"{pairs} pairs of runs, on against off: {draws.mean():+.2%} [{low:+.2%}, {high:+.2%}]")


def large_file(tokens: int, responses: int) -> None:
    generator = torch.Generator().manual_seed(0)
    length, score = tokens // responses, Score(1.0, True, None)
    completion = Completion(list(range(length)), [0.0] * length, False)
    trajectories = [
        Trajectory(
            Prompt([1], Problem([{"role": "user", "content": "?"}], "1"), i // 8),
            completion, "", 1.0, score, [True] * length, 1.0, i % 8,
        )
        for i in range(responses)
    ]  # fmt: skip
    count = length * responses

    def random() -> torch.Tensor:
        return torch.randn(count, generator=generator)

    made = Tokens(
        torch.randint(0, 150_000, (count,), generator=generator),
        torch.arange(responses).repeat_interleave(length),
        torch.ones(count), random(), torch.ones(count),
        old_logprobs_T=random(), weights_T=torch.full((count,), 1 / count),
    )  # fmt: skip
    now = TokenStatistics(random() - 3, random(), random())
    rollout = RolloutBatch(Rollout(0, [trajectories], [trajectories]), 0)
    mini_batch = MiniBatch(rollout, trajectories, [], selected_by=now)
    with tempfile.TemporaryDirectory() as folder:
        files = RecordFiles(Recorder(tokens="all"), Path(folder) / records.FOLDER, 0, 1, 0)
        start = time.perf_counter()
        files.add(token_columns(mini_batch, 0, made, now, random(), None, {}))
        files.write(files.take(), 0, rollout.rollout, 0, count, records.Facts())
        seconds = time.perf_counter() - start
        (file,) = records.files_of(Path(folder), "tokens")
        size = file.stat().st_size / count
    print(f"{count:,} tokens of {responses} responses: {seconds:.1f} s, {size:.1f} bytes a token")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--rollouts", type=int, default=3, help="of each run")
    args = parser.parse_args()
    large_file(2_200_000, 256)
    default_run(args.pairs, args.rollouts)


if __name__ == "__main__":
    main()
