"""What it costs to show and keep tokens.

    python scripts/benchmark_records.py

First, the default run with the insight on in every other rollout: the time that it takes itself,
and the times of neighbouring rollouts side by side. Then the file of 2.2 million random tokens of
256 responses.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

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


class EveryOther(TokenInsight):
    """The insight in every other rollout, with the seconds that it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.seconds = [0.0], list[float]()

    def connect(self, parts: Parts) -> None:
        heard = Events()
        super().connect(Parts(parts.module, parts.data, heard))
        for kind in (RolloutCollected, MiniBatchDone, RolloutDone):
            parts.events.listen(kind, lambda event: self._pass_on(heard, event))

    def _pass_on(self, heard: Events, event: object) -> None:
        if self._trainer.current_epoch % 2 == 0:
            start = time.perf_counter()
            heard.tell(event)
            self.own[-1] += time.perf_counter() - start

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.seconds.append(time.perf_counter() - self._start)
        self.own.append(0.0)


def default_run(pairs: int) -> None:
    insight = EveryOther()
    with tempfile.TemporaryDirectory() as logs:
        words = [
            "objective=stapo", f"run.logs={logs}", f"trainer.max_epochs={2 * pairs + 2}",
            "trainer.check_val_every_n_epoch=999", "task.validation_size=16",
            "run.checkpoint_every=999", "trainer.without=[TokenInsight]",
        ]  # fmt: skip
        cli = StapoCLI(expand(words, config_dir()), config_dir())
        cli.trainer.callbacks.append(insight)
        cli.fit()
    # The first pair warms up.
    on, off, own = insight.seconds[2::2], insight.seconds[3::2], insight.own[2:-1:2]
    shares = [mine / whole for mine, whole in zip(own, on, strict=True)]
    draws = torch.tensor([a / b - 1 for a, b in zip(on, off, strict=True)])
    means = draws[torch.randint(len(draws), (10_000, len(draws)))].mean(1)
    low, high = means.quantile(torch.tensor([0.025, 0.975])).tolist()
    print(f"own time: {statistics.median(shares):.2%} of a rollout (median of {len(shares)})")
    print(f"{len(draws)} pairs, on against off: {draws.mean():+.2%} [{low:+.2%}, {high:+.2%}]")


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
        files.write(0, rollout.rollout, 0, count, records.Facts())
        seconds = time.perf_counter() - start
        (file,) = records.files_of(Path(folder), "tokens")
        size = file.stat().st_size / count
    print(f"{count:,} tokens of {responses} responses: {seconds:.1f} s, {size:.1f} bytes a token")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    args = parser.parse_args()
    large_file(2_200_000, 256)
    default_run(args.pairs)


if __name__ == "__main__":
    main()
