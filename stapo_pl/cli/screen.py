"""The first screen of `--help`. It lists the groups and the settings that people use most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from stapo_pl.cli.grammar import Grammar

_FIT = """Trains a policy by reinforcement learning with verifiable rewards.

  stapo fit objective=stapo                       the shipped policy on a small task
  stapo fit model.path=MODEL task=file task.path=ROWS objective=grpo
"""
_EVALUATE = """Measures a policy on benchmarks: samples, grades, and prints avg@k, pass@k and maj@k.

  stapo evaluate model.path=MODEL benchmark=all   the paper's six, by its protocol
  stapo evaluate model.path=last benchmark=gsm8k  the newest checkpoint of all runs
  stapo evaluate grade=FOLDER reward=math         judges again what was sampled
"""
_FIT_SETTINGS = {
    "model.path": "model folder or hub name; the policy that comes along",
    "model.optimizer.lr": "learning rate; for a real model about 1e-6",
    "data.prompts_per_rollout": "prompts that are sampled before an update",
    "data.group_size": "responses to each prompt",
    "data.prompts_per_mini_batch": "prompts of an optimizer step",
    "data.max_prompt_tokens": "longest prompt",
    "data.max_new_tokens": "longest response",
    "data.temperature": "of the rollouts",
    "trainer.max_epochs": "rollouts of the run",
    "trainer.accumulate_grad_batches": "micro-batches of an optimizer step, on each rank",
    "trainer.devices": "processes, one for each GPU",
    "trainer.check_val_every_n_epoch": "rollouts between two validations",
    "seed_everything": "seed of everything that is drawn",
    "ckpt_path": "a checkpoint to go on from, or `last`",
    "run.name": "folder of the run under run.logs; named by what was set",
}
_EVALUATE_SETTINGS = {
    "model.path": "model folder, hub name, checkpoint, folder of a run, or `last`",
    "benchmark": "NAME,NAME of configs/task, or `all` of the paper's",
    "benchmark.samples": "of each problem; each benchmark has a number of its own",
    "benchmark.path": "folder of their files, in place of the hub",
    "decodings": "[temperature, top-p] of each",
    "data.max_new_tokens": "longest response",
    "data.prompt_format": "chat, plain, or auto by the tokenizer",
    "samples_per_write": "samples between two writes: the most that a kill can cost",
    "data.grading.workers": "processes that judge; one for each core, at most 8",
    "data.grading.time_limit": "seconds for an answer",
    "verifier.path": "a model that is asked about what the rule rejects",
    "seed_everything": "seed of everything that is drawn",
    "grade": "folder of an evaluation to judge again; samples nothing",
    "run.name": "folder under run.logs; named by the model",
    "run.logs": "folder of all runs and evaluations",
}
_SCREENS = {"fit.yaml": (_FIT, _FIT_SETTINGS), "evaluate.yaml": (_EVALUATE, _EVALUATE_SETTINGS)}


def first_screen(words: Sequence[str], config_dir: Path, grammar: Grammar) -> str | None:
    """Returns the text that `--help` prints.

    None if the words do not ask for help, or ask for `--help all`, which the parser answers.
    """
    if not {"-h", "--help"}.intersection(words) or "all" in words:
        return None
    about, settings = _SCREENS[grammar.defaults]
    defaults = yaml.safe_load((config_dir / grammar.defaults).read_text())
    lines = [about, "Groups, GROUP=NAME; a setting inside one is GROUP.KEY=VALUE:"]
    for name in grammar.groups:
        names = ", ".join(sorted(path.stem for path in (config_dir / name).glob("*.yaml")))
        lines += _folded(f"  {name:<11}", names)
    lines += ["", "Settings, KEY=VALUE, with their defaults:"]
    for key, text in settings.items():
        value = _default(defaults, key)
        lines.append(f"  {key:<32} {text}{'' if value is None else f' ({value})'}")
    command = f"stapo {grammar.defaults.removesuffix('.yaml')}"
    lines += ["", f"All of them: {command} --help all"]
    lines += [f"As words resolve them: {command} ... --print_config"]
    return "\n".join(lines)


def _default(defaults: Any, key: str) -> Any:
    """Returns the default value of a key, or None if the YAML file has none."""
    for part in key.split("."):
        if isinstance(defaults, dict) and part not in defaults:
            defaults = defaults.get("init_args")
        defaults = defaults.get(part) if isinstance(defaults, dict) else None
    return defaults


def _folded(head: str, text: str, width: int = 98) -> list[str]:
    """Returns a text after a head, in lines of at most `width` characters."""
    words, lines = text.split(" "), [head]
    for word in words:
        if len(lines[-1]) + len(word) >= width:
            lines.append(" " * len(head))
        lines[-1] += f" {word}"
    return lines
