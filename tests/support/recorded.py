"""Run folders with records that were never made by a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from stapo_pl.insight import records
from stapo_pl.insight.records import Facts
from stapo_pl.policy.loading import load_tokenizer
from stapo_pl.policy.model import shipped_policy

TAU_P, TAU_H = 0.002, 0.5
HOSTILE = "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 1'>"
TEXTS = ["So 12 + 34 = \\boxed{46}", "We add 1\nand 2", HOSTILE]


def tokenizer():
    return load_tokenizer(str(shipped_policy()))


class Folder:
    """A run folder to which records are added, one completion at a time.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokenizer = tokenizer()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text("model:\n  path: null\n")

    def write(
        self,
        texts: list[str],
        rollout: int = 0,
        rank: int = 0,
        step: int | None = None,
        advantages: list[float] | None = None,
        rare: tuple[int, ...] = (),
        kept_rare: tuple[int, ...] = (),
        token_rank: int | None = None,
        left_out: bool = False,
        **facts: Any,
    ) -> None:
        """Writes a rollout with one completion of each text, and one visit of each.

        Args:
            texts: the completions.
            rollout: its number. Prompts are numbered by it.
            rank: the rank that sampled the completions.
            step: the optimizer step of the visits. None is that of the number of the rollout.
            advantages: of each completion; 1.0 otherwise.
            rare: the places of tokens with low p and low H, which are silenced where A > 0.
            kept_rare: the places of tokens with low p and high H.
            token_rank: the rank that trained on them; that which sampled them otherwise.
            left_out: whether no completion had a pass.
            facts: further facts.
        """
        step = rollout if step is None else step
        advantages = advantages or [1.0] * len(texts)
        ids = [self.tokenizer.encode(text, add_special_tokens=False) for text in texts]
        prompts = [rollout * 100 + n for n in range(len(texts))]
        folder = self.folder / records.FOLDER
        completions = {
            "prompt": prompts,
            "sample": [0] * len(texts),
            "rollout": [rollout] * len(texts),
            "version": [step] * len(texts),
            "question": [f"What is {p}?" for p in prompts],
            "token_ids": ids,
            "text": texts,
            "answer": ["46"] * len(texts),
            "reward": [float(a > 0) for a in advantages],
            "advantage": advantages,
            "correct": [a > 0 for a in advantages],
        }
        records.write(records.completion_file(folder, rollout, rank), completions)
        rows: dict[str, list[Any]] = {name: [] for name in records.TOKEN_COLUMNS}
        rows["kept_shadow"] = []
        for prompt, tokens, advantage in zip(prompts, ids, advantages, strict=True):
            if left_out:
                row = {
                    name: 0 for name, kind in records.TOKEN_COLUMNS.items() if "list" not in kind
                }
                row |= {"prompt": prompt, "place": records.LEFT_OUT, "token": len(tokens)}
                row |= {"kept": False, "reason": records.NO_ADVANTAGE, "step": step}
                for name in rows:
                    rows[name].append(row.get(name))
                continue
            for place, token in enumerate(tokens):
                is_rare = place in rare or place in kept_rare
                entropy = 0.1 if place in rare else 1.0
                logprob = math.log(0.001 if is_rare else 0.5)
                is_kept = not (place in rare and advantage > 0)
                row = {
                    "step": step, "prompt": prompt, "sample": 0, "place": place, "token": token,
                    "advantage": advantage, "weight": float(is_kept), "kept": is_kept,
                    "logprob": logprob, "entropy": entropy, "collision": 0.5, "slope": -1.0,
                    "selection_logprob": logprob, "old_logprob": logprob - 0.1,
                    "sampler_logprob": logprob - 0.1 + 0.01 * is_rare, "curve_weight": 1.0,
                    "alternatives": tokens[:5] if is_rare else None,
                    "alternative_probs": [0.9, 0.04, 0.03, 0.01, 0.01] if is_rare else None,
                    "kept_shadow": place % 2 == 0,
                }  # fmt: skip
                for name in rows:
                    rows[name].append(row.get(name))
        about = {"objective": "STAPO", "tau_p": TAU_P, "tau_h": {step: TAU_H}}
        total = 0 if left_out else sum(map(len, ids))
        token_file = records.token_file(folder, rollout, rank if token_rank is None else token_rank)
        records.write(token_file, rows, Facts(**({"total": total} | about | facts)))

    def write_curves(self, steps: int) -> None:
        """Writes curves of a run whose rollouts have two steps each."""
        header = "step,policy/entropy,policy/grad_norm,policy/silenced_fraction,reward/mean\n"
        lines = [
            f"{s},{0.2 + 0.01 * s},{0.05 * s},0.0001,{0.5 if s % 2 else ''}\n" for s in range(steps)
        ]
        (self.folder / "metrics.csv").write_text(header + "".join(lines))


def large(folder: Path, tokens: int, length: int = 250) -> None:
    """Makes a run folder with so many tokens, in completions of one length."""
    made = Folder(folder)
    rng = np.random.default_rng(0)
    words = [" so", " add", " 1", "2", " =", " the", " check", "\n"]
    for rollout in range(10):
        texts = ["".join(rng.choice(words, length)) for _ in range(tokens // length // 10)]
        made.write(texts, rollout, rare=(7,), kept_rare=(11,))
    made.write_curves(10)
