"""Seconds of a mini-batch's passes with padded and with packed micro-batches.

python scripts/benchmark_packing.py

A mini-batch of responses of very unlike lengths goes forward and backward through a model with
random weights, cut into micro-batches as a run cuts them: sequences of like length together. The
two ways take turns; the last column is the largest difference of their gradients, relative to the
largest gradient.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from stapo_pl.core.batches import MicroBatch
from stapo_pl.core.types import Completion, Problem, Prompt, Score, Trajectory
from stapo_pl.policy.model import Policy
from stapo_pl.rollout.batching import collate_all, spread

PROMPT_TOKENS = 64


def make_policy(device: torch.device) -> Policy:
    """A model of 30 million parameters."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=16_384, hidden_size=512, intermediate_size=1536, num_hidden_layers=7,
        num_attention_heads=8, num_key_value_heads=4, head_dim=64, max_position_embeddings=4096,
        tie_word_embeddings=True,
    )  # fmt: skip
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    return Policy(AutoModelForCausalLM.from_config(config, dtype=dtype).to(device))


def make_responses(count: int, longest: int) -> list[Trajectory]:
    """Responses whose lengths are log-normal: a median of an eighth of the longest."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randn(count, generator=generator).exp() * longest / 8
    problem = Problem([{"role": "user", "content": ""}], "")
    trajectories = []
    for length in lengths.long().clamp(1, longest).tolist():
        ids = torch.randint(16_384, (PROMPT_TOKENS + length,), generator=generator).tolist()
        completion = Completion(ids[PROMPT_TOKENS:], [0.0] * length, truncated=False)
        prompt = Prompt(ids[:PROMPT_TOKENS], problem, 0)
        score, mask = Score(0.0, False, None), [True] * length
        trajectories.append(Trajectory(prompt, completion, "", 0.0, score, mask))
    return trajectories


def passes(policy: Policy, micros: list[MicroBatch]) -> tuple[float, torch.Tensor]:
    """Seconds, and the gradient."""
    policy.zero_grad()
    start = time.perf_counter()
    for micro in micros:
        policy(micro).logprobs_T.sum().backward()
    gradient = torch.cat(
        [p.grad.flatten() for p in policy.parameters() if p.grad is not None]
    ).cpu()
    return time.perf_counter() - start, gradient


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--responses", type=int, default=32)
    parser.add_argument("--longest", type=int, default=256, help="tokens of the longest response")
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ways = {"padded": make_policy(device), "packed": make_policy(device)}
    ways["packed"].pack()
    responses = make_responses(args.responses, args.longest)
    print("| micro-batches | padding | padded | packed | ratio | difference |")
    print("|---|---|---|---|---|---|")
    for count in (1, 4, 16):
        micros = collate_all(spread(responses, count), temperature=1.0)
        for micro in micros:
            micro.input_ids_S, micro.predictor_T = (
                x.to(device) for x in (micro.input_ids_S, micro.predictor_T)
            )
            micro.tokens.token_ids_T = micro.tokens.token_ids_T.to(device)
        padded_tokens = sum(len(m.lengths) * max(m.lengths) for m in micros)
        padding = 1 - sum(len(m.input_ids_S) for m in micros) / padded_tokens
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        gradients = {}
        for _ in range(args.turns):
            for way, policy in ways.items():
                taken, gradients[way] = passes(policy, micros)
                seconds[way].append(taken)
        padded, packed = (median(seconds[way]) for way in ways)
        difference = (gradients["padded"] - gradients["packed"]).abs().max()
        difference /= gradients["padded"].abs().max()
        print(
            f"| {count} | {padding:.0%} | {padded:.2f} s | {packed:.2f} s | "
            f"{padded / packed:.2f} | {difference:.1e} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
