"""Samples per second beside TRL's GRPOTrainer: same checkpoint, task, batch and threads.

pip install -e ".[benchmark]" && python scripts/benchmark.py

Each trains in a process of its own, in turns, and is timed from the end of its first rollout to the
end of its last, so loading and warming up do not count. stapo_pl runs twice: as it is, and with
data.prune=false, which passes sequences that teach nothing through the policy as TRL does.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from stapo_pl.policy.model import shipped_policy

FIT = Path(__file__).parent / "fit.py"
# The sizes of the default run.
PROMPTS, GROUP, NEW_TOKENS, MICRO_BATCHES, LR = 32, 8, 96, 4, 4e-4


def ours(steps: int, per_rollout: int, folder: str, model: str, prune: bool) -> float:
    """Seconds between the ends of the first and the last rollout."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = [
        "objective=grpo", f"data.prompts_per_rollout={per_rollout * PROMPTS}",
        f"data.prompts_per_mini_batch={PROMPTS}", f"data.group_size={GROUP}",
        f"data.max_new_tokens={NEW_TOKENS}", f"trainer.max_epochs={steps // per_rollout}",
        f"trainer.accumulate_grad_batches={MICRO_BATCHES}",
        f"trainer.check_val_every_n_epoch={steps + 1}", f"model.optimizer.lr={LR}",
        "task.validation_size=1", "run.name=benchmark", f"run.logs={folder}",
        f"model.path={model}", f"data.prune={str(prune).lower()}",
    ]  # fmt: skip
    subprocess.run([sys.executable, str(FIT), *words], check=True, capture_output=True)
    events = EventAccumulator(f"{folder}/benchmark/version_0")
    events.Reload()
    times = [event.wall_time for event in events.Scalars("policy/loss")]
    return times[-1] - times[per_rollout - 1]


def trl(steps: int, per_rollout: int, folder: str, model: str) -> float:
    """The same for TRL, in a process of its own."""
    result = subprocess.run(
        [sys.executable, __file__, "--worker", "--steps", str(steps),
         "--steps-per-rollout", str(per_rollout), "--folder", folder, "--model", model],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return float(result.stdout.split()[-1])


def trl_worker(steps: int, per_rollout: int, folder: str, model: str) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from stapo_pl.rewards.answers.boxed import last_boxed
    from stapo_pl.tasks import Arithmetic

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step_end(self, *args, **kwargs):
            self.times.append(time.perf_counter())

    def reward(completions, answer, **kwargs):
        return [float(last_boxed(c) == a) for c, a in zip(completions, answer, strict=True)]

    rows = [
        {"prompt": p.messages[0]["content"], "answer": p.answer}
        for p in Arithmetic().train_problems().problems
    ]
    clock = Clock()
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=reward,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(model, padding_side="left"),
        callbacks=[clock],
        args=GRPOConfig(
            output_dir=folder, max_steps=steps, learning_rate=LR, use_cpu=True, bf16=False,
            lr_scheduler_type="constant_with_warmup", warmup_steps=10,
            per_device_train_batch_size=PROMPTS * GROUP // MICRO_BATCHES,
            gradient_accumulation_steps=MICRO_BATCHES, num_generations=GROUP,
            steps_per_generation=per_rollout * MICRO_BATCHES,
            max_completion_length=NEW_TOKENS, temperature=1.0, beta=0.0, loss_type="grpo",
            gradient_checkpointing=False, save_strategy="no", report_to="none", disable_tqdm=True,
            model_init_kwargs={"dtype": "float32"},
        ),
    )  # fmt: skip
    trainer.train()
    print(clock.times[-1] - clock.times[per_rollout - 1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=16, help="optimizer steps of a turn")
    parser.add_argument("--steps-per-rollout", type=int, default=2, help="optimizer steps of each")
    parser.add_argument("--turns", type=int, default=3, help="turns of each")
    parser.add_argument("--model", default=str(shipped_policy()), help="model folder to train")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return trl_worker(args.steps, args.steps_per_rollout, args.folder, args.model)
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    runs: dict[str, Callable[[int, int, str, str], float]]
    runs = {"stapo_pl": partial(ours, prune=True), "unpruned": partial(ours, prune=False)}
    runs["TRL"] = trl
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(args.turns):
        for name, run in runs.items():
            with tempfile.TemporaryDirectory() as folder:
                seconds = run(args.steps, args.steps_per_rollout, folder, args.model)
            samples = (args.steps - args.steps_per_rollout) * PROMPTS * GROUP
            rates[name].append(samples / seconds)
            print(f"turn {turn + 1}: {name:<9}{rates[name][-1]:7.1f} samples/s", flush=True)
    rate = {name: median(found) for name, found in rates.items()}
    print(
        f"median: stapo_pl {rate['stapo_pl']:.1f}, unpruned {rate['unpruned']:.1f}, TRL "
        f"{rate['TRL']:.1f} samples/s; ratio to TRL {rate['stapo_pl'] / rate['TRL']:.2f}, "
        f"unpruned {rate['unpruned'] / rate['TRL']:.2f}"
    )


if __name__ == "__main__":
    main()
