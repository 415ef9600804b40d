"""Samples per second beside TRL's GRPOTrainer: same checkpoint, task, batch and threads.

pip install -e ".[benchmark]" && python scripts/benchmark.py

Both train in processes of their own, in turns, and each is timed from the end of its first
optimizer step to the end of its last, so loading and warming up do not count.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

FIT = Path(__file__).parent / "fit.py"
PROMPTS, GROUP, NEW_TOKENS, MICRO_BATCHES, LR = 32, 8, 64, 4, 4e-4


def ours(steps: int, folder: str) -> float:
    """Seconds between the ends of the first and the last step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = [
        "objective=grpo", f"data.prompts_per_rollout={PROMPTS}",
        f"data.prompts_per_mini_batch={PROMPTS}", f"data.group_size={GROUP}",
        f"data.max_new_tokens={NEW_TOKENS}", f"trainer.max_epochs={steps}",
        f"trainer.accumulate_grad_batches={MICRO_BATCHES}",
        f"trainer.check_val_every_n_epoch={steps + 1}", f"model.optimizer.lr={LR}",
        "task.validation_size=1", "run.name=benchmark", f"run.logs={folder}",
    ]  # fmt: skip
    subprocess.run([sys.executable, str(FIT), *words], check=True, capture_output=True)
    events = EventAccumulator(f"{folder}/benchmark/version_0")
    events.Reload()
    times = [event.wall_time for event in events.Scalars("policy/loss")]
    return times[-1] - times[0]


def trl(steps: int, folder: str) -> float:
    """The same for TRL, in a process of its own."""
    result = subprocess.run(
        [sys.executable, __file__, "--worker", "--steps", str(steps), "--folder", folder],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return float(result.stdout.split()[-1])


def trl_worker(steps: int, folder: str) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from stapo_pl.policy.model import shipped_policy
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
        model=str(shipped_policy()),
        reward_funcs=reward,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(shipped_policy(), padding_side="left"),
        callbacks=[clock],
        args=GRPOConfig(
            output_dir=folder, max_steps=steps, learning_rate=LR, use_cpu=True, bf16=False,
            lr_scheduler_type="constant_with_warmup", warmup_steps=10,
            per_device_train_batch_size=PROMPTS * GROUP // MICRO_BATCHES,
            gradient_accumulation_steps=MICRO_BATCHES, num_generations=GROUP,
            max_completion_length=NEW_TOKENS, temperature=1.0, beta=0.0, loss_type="grpo",
            gradient_checkpointing=False, save_strategy="no", report_to="none", disable_tqdm=True,
            model_init_kwargs={"dtype": "float32"},
        ),
    )  # fmt: skip
    trainer.train()
    print(clock.times[-1] - clock.times[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=16, help="optimizer steps of a turn")
    parser.add_argument("--turns", type=int, default=3, help="turns of each")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return trl_worker(args.steps, args.folder)
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    rates: dict[str, list[float]] = {"stapo_pl": [], "TRL": []}
    for turn in range(args.turns):
        for name, run in (("stapo_pl", ours), ("TRL", trl)):
            with tempfile.TemporaryDirectory() as folder:
                seconds = run(args.steps, folder)
            rates[name].append((args.steps - 1) * PROMPTS * GROUP / seconds)
            print(f"turn {turn + 1}: {name:<9}{rates[name][-1]:7.1f} samples/s", flush=True)
    mine, theirs = (median(rates[name]) for name in ("stapo_pl", "TRL"))
    print(f"median: stapo_pl {mine:.1f}, TRL {theirs:.1f} samples/s, ratio {mine / theirs:.2f}")


if __name__ == "__main__":
    main()
