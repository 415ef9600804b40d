"""Tokens per second of both samplers, side by side, on the shipped policy and a larger one.

python scripts/benchmark_samplers.py

Both engines hold the same random or shipped weights and answer the same requests in turns, in one
process. Hardly anything ends a response of the larger model, so nearly all have the full length.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from stapo_pl.core.seeding import seed_for
from stapo_pl.core.types import Decoding, Request
from stapo_pl.policy.loading import load_policy, load_tokenizer
from stapo_pl.policy.model import Policy, shipped_policy
from stapo_pl.samplers import Room, TransformersSampler, VLLMSampler
from stapo_pl.tasks import Arithmetic


def larger() -> Policy:
    """A model of 30 million parameters with random weights."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=16_384, hidden_size=512, intermediate_size=1536, num_hidden_layers=7,
        num_attention_heads=8, num_key_value_heads=4, head_dim=64, max_position_embeddings=2048,
        tie_word_embeddings=True, architectures=["Qwen3ForCausalLM"],
    )  # fmt: skip
    return Policy(AutoModelForCausalLM.from_config(config).eval())


def measure(name: str, policy: Policy, end: int, requests: list[Request], length: int, args):
    """Prints a row of the table."""
    engines = {"transformers": TransformersSampler(args.sequences), "vllm": VLLMSampler()}
    longest = max(len(request.prompt_ids) for request in requests) + length
    sync = {}
    rates: dict[str, list[float]] = {engine: [] for engine in engines}
    for engine in engines.values():
        engine.build(policy.model.config, [end], args.device, longest, Room.of_idle(args.device))
        engine.load_weights(policy.named_weights())
        engine.generate(requests[:8], Decoding(8), lambda ended: None)  # warms up
    for _ in range(args.turns):
        for key, engine in engines.items():
            start = time.perf_counter()
            engine.load_weights(policy.named_weights())
            sync[key] = time.perf_counter() - start
            start = time.perf_counter()
            completions = engine.generate(requests, Decoding(length), lambda ended: None)
            seconds = time.perf_counter() - start
            rates[key].append(sum(len(c.token_ids) for c in completions) / seconds)
    middle = {key: median(values) for key, values in rates.items()}
    parameters = sum(p.numel() for p in policy.parameters()) / 1e6
    print(
        f"| {name}, {parameters:.1f}M | {length} | {middle['transformers']:,.0f} | "
        f"{middle['vllm']:,.0f} | {middle['vllm'] / middle['transformers']:.2f} | "
        f"{sync['vllm'] * 1000:.0f} ms |",
        flush=True,
    )
    for engine in engines.values():
        engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sequences", type=int, default=256)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    args.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    path = str(shipped_policy())
    print("| model | new tokens | transformers | vllm | ratio | weight sync |")
    print("|---|---|---|---|---|---|")
    tokenizer = load_tokenizer(path)
    problems = Arithmetic().train_problems().problems[: args.sequences]
    prompts = [tokenizer.encode(problem.messages[-1]["content"]) for problem in problems]
    requests = [Request(ids, seed_for("shipped", i)) for i, ids in enumerate(prompts)]
    measure("shipped", load_policy(path), tokenizer.eos_token_id, requests, 96, args)
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(0, 16_384, (args.sequences, 64), generator=generator).tolist()
    requests = [Request(ids, seed_for("larger", i)) for i, ids in enumerate(prompts)]
    # It draws the end token once in 16 thousand times.
    for length in (64, 256):
        measure("random", larger(), 1, requests, length, args)


if __name__ == "__main__":
    main()
