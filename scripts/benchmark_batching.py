"""Tokens per second of the transformers sampler, beside transformers' own `generate`.

python scripts/benchmark_batching.py

Both answer the same requests with the same random numbers, in turns, in one process. The lengths
of the responses are drawn from a log-normal distribution and cut at the limit. Their mean is about
60 % of the limit. The policy itself ends nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from benchmark_samplers import larger
from transformers import PreTrainedModel

from stapo_pl.core.types import Completion, Decoding, Request
from stapo_pl.policy.loading import load_policy
from stapo_pl.policy.model import shipped_policy
from stapo_pl.samplers import continuous, turns
from stapo_pl.samplers.attention import DECODING
from stapo_pl.samplers.drawing import Draw

GROUP = 8


def draw_of(lengths: list[int], end: int) -> type[Draw]:
    """A `Draw` that ends the response of seed i after `lengths[i]` tokens."""

    class Ends(Draw):
        def uniforms(self, seed: int) -> torch.Tensor:
            numbers = super().uniforms(seed)
            if lengths[seed] < self.limit:
                numbers[lengths[seed] - 1] = 2.0  # beyond all probabilities, so the last token
            return numbers

        def __call__(self, logits_BV, uniform_B):
            logits_BV[:, end] = -100.0  # or the policy could end a response itself
            return super().__call__(logits_BV, uniform_B)

    return Ends


@torch.no_grad()
def measure(
    name: str, model: PreTrainedModel, prompts: int, limit: int, batch_size: int, rounds: int
) -> None:
    """Prints a row of the table."""
    end = model.config.vocab_size - 1
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(prompts * GROUP, generator=generator)
    lengths = (draws * 0.6).exp().mul(0.55 * limit).round().clamp(1, limit).int().tolist()
    continuous.Draw = turns.Draw = draw_of(lengths, end)  # type: ignore[misc,attr-defined]
    places = torch.randint(10, 30, (prompts,), generator=generator).tolist()
    texts = [torch.randint(0, end, (n,), generator=generator).tolist() for n in places]
    requests = [Request(texts[i // GROUP], seed=i) for i in range(len(lengths))]
    how = model, [end], Decoding(limit), batch_size, requests

    def nothing(ended: dict[int, Completion]) -> None: ...

    own_attention = model.config._attn_implementation
    ways: dict[str, tuple[str, Callable[[], list[Completion]]]] = {
        "generate": (own_attention, partial(turns.generate_in_turns, *how, nothing)),
        "sampler": (DECODING, lambda: continuous.Generation(*how).run(nothing)),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    answers = {}
    for _ in range(rounds):
        for way, (attention, run) in ways.items():
            model.set_attn_implementation(attention)
            start = time.perf_counter()
            answers[way] = run()
            seconds[way].append(time.perf_counter() - start)
    pairs = list(zip(*answers.values(), strict=True))
    same = sum(a.token_ids == b.token_ids for a, b in pairs)
    gaps = [
        abs(x - y)
        for a, b in pairs
        if a.token_ids == b.token_ids
        for x, y in zip(a.logprobs, b.logprobs, strict=True)
    ]
    tokens = sum(len(answer.token_ids) for answer in answers["sampler"])
    rate = {way: tokens / median(found) for way, found in seconds.items()}
    print(
        f"| {name} | {limit} | {tokens / len(lengths) / limit:.0%} | {rate['generate']:,.0f} | "
        f"{rate['sampler']:,.0f} | {rate['sampler'] / rate['generate']:.2f} | "
        f"{same} of {len(pairs)} | {max(gaps, default=float('nan')):.0e} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print("| model | limit | mean length | generate | sampler | ratio | same | largest gap |")
    print("|---|---|---|---|---|---|---|---|")
    shipped = load_policy(str(shipped_policy())).model.eval()
    shipped.set_attn_implementation("sdpa")
    measure("shipped, 0.4M", shipped, 64, 96, args.batch_size, args.rounds)
    measure("shipped, 0.4M", shipped, 64, 256, args.batch_size, args.rounds)
    large = larger().model
    large.set_attn_implementation("sdpa")
    measure("random, 30.4M", large, 24, 128, args.batch_size // 4, args.rounds)


if __name__ == "__main__":
    main()
