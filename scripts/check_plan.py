"""Trains a random model for two rollouts and compares the memory that it took with its plan.

python scripts/check_plan.py                                             # on this machine's device
python scripts/check_plan.py trainer=fsdp trainer.accelerator=cpu trainer.devices=2
python scripts/check_plan.py --layers 24 model.gradient_checkpointing=true   # words are fit.py's
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import lightning as L
import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from stapo_pl.cli.fit import StapoCLI
from stapo_pl.cli.grammar import expand
from stapo_pl.policy.model import shipped_policy
from stapo_pl.training.planning import plan_run

CONFIGS = Path(__file__).parents[1] / "configs"
# A random model does not end its responses, so they are as long as they may be.
DEFAULTS = [
    "sampler=transformers", "sampler.batch_size=32", "data.prompts_per_rollout=4",
    "data.prompts_per_mini_batch=4", "data.group_size=8", "data.max_new_tokens=96",
    "trainer.accumulate_grad_batches=2", "trainer.max_epochs=2", "trainer.limit_val_batches=0",
    "model.max_sampler_gap_mean=null", "model.max_sampler_gap_kl=null",
]  # fmt: skip


class Meter(L.Callback):
    """The most memory that was taken in each phase: a GPU's by tensors, a process's on a CPU."""

    def __init__(self) -> None:
        self.peaks = dict.fromkeys(("rollout", "passes", "step"), 0)

    def setup(self, trainer, pl_module, stage) -> None:
        self.on_gpu = trainer.strategy.root_device.type == "cuda"
        self._restart()  # making the model is not the run's
        self.before = self._taken()

    def on_train_start(self, trainer, pl_module) -> None:
        self._restart()  # loading is not in the plan

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self._note("rollout" if batch_idx == 0 else "passes")

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self._note("passes")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self._note("step" if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 else "passes")

    def _note(self, phase: str) -> None:
        self.peaks[phase] = max(self.peaks[phase], self._taken() - self.before)
        self._restart()

    def _taken(self) -> int:
        if self.on_gpu:
            return torch.cuda.max_memory_allocated()
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def _restart(self) -> None:
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")


def make_model(folder: str, layers: int, hidden: int, vocabulary: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shipped_policy())
    config = Qwen3Config(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=3 * hidden,
        num_hidden_layers=layers, num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 128, head_dim=64, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=640)
    parser.add_argument("--vocabulary", type=int, default=32000)
    args, words = parser.parse_known_args()
    folder = tempfile.mkdtemp()
    try:
        make_model(f"{folder}/model", args.layers, args.hidden, args.vocabulary)
        own = [f"model.path={folder}/model", f"run.logs={folder}/logs"]
        cli = StapoCLI(expand([*DEFAULTS, *own, *words], CONFIGS), CONFIGS)
        trainer = cli.trainer
        plan = plan_run(
            cli.model, cli.config_init.sampler.engine, trainer.strategy, trainer.compute_dtype,
            cli.datamodule.sizes.largest_micro_batch(
                trainer.world_size,
                trainer.accumulate_grad_batches,
                cli.datamodule.max_prompt_tokens,
                cli.datamodule.decoding.max_new_tokens,
                cli.datamodule.token_budget,
            ),
            cli.datamodule.max_prompt_tokens + cli.datamodule.longest_response,
            trainer.strategy.root_device, None, trainer.world_size,
        )  # fmt: skip
        meter = Meter()
        cli.trainer.callbacks.insert(0, meter)
        cli.fit()
    finally:
        shutil.rmtree(folder)
    if cli.trainer.is_global_zero:
        print(plan.describe())
        for phase, measured in meter.peaks.items():
            planned = getattr(plan.total, phase)
            print(
                f"{phase:<8} planned {planned / 2**30:.2f} GiB, measured {measured / 2**30:.2f}: "
                f"{planned / measured:.2f} of it"
            )


if __name__ == "__main__":
    main()
