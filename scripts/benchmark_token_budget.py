"""Passes and padding of a mini-batch that a number of tokens cuts, beside a fixed number of passes.

python scripts/benchmark_token_budget.py

Both must fit the same memory. A fixed number of micro-batches (trainer.accumulate_grad_batches) has
to suffice if all sequences are as long as can be. With data.max_tokens_per_micro_batch there are as
many as the lengths at hand need. Responses have log-normal lengths with a median of an eighth of
the longest, as with a median of 2,000 tokens and a limit of 16,000. The two ways take turns; the
last column is the largest difference of their gradients, relative to the largest gradient.
"""

from __future__ import annotations

import argparse
from statistics import median

import torch
from benchmark_packing import PROMPT_TOKENS, make_policy, make_responses, passes

from stapo_pl.rollout.batching import collate_all, runs_needed, spread


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--responses", type=int, default=64, help="of a mini-batch on this rank")
    parser.add_argument("--longest", type=int, default=480, help="tokens of the longest response")
    parser.add_argument("--sequences", type=int, default=2, help="longest ones that memory holds")
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    policy, responses = make_policy(device), make_responses(args.responses, args.longest)
    lengths = [len(response) for response in responses]
    budget = args.sequences * (PROMPT_TOKENS + args.longest)
    counts = {
        "fixed": -(-args.responses // args.sequences),
        "by tokens": runs_needed(lengths, budget),
    }
    cuts = {name: spread(responses, count) for name, count in counts.items()}
    micros = {
        name: [micro.on(device) for micro in collate_all(parts, 1.0)]
        for name, parts in cuts.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in cuts}
    gradients = {}
    for _ in range(args.turns):
        for name in cuts:
            taken, gradients[name] = passes(policy, micros[name])
            seconds[name].append(taken)
    first = gradients["fixed"]
    print(f"{args.responses} responses, {sum(lengths):,} tokens, at most {budget:,} in a pass")
    print("| cut | passes | tokens passed | padding | s | difference |")
    print("|---|---|---|---|---|---|")
    for name, parts in cuts.items():
        padded = sum(len(part) * max(len(one) for one in part) for part in parts)
        difference = (gradients[name] - first).abs().max() / first.abs().max()
        print(
            f"| {name} | {counts[name]} | {padded:,} | {1 - sum(lengths) / padded:.1%} | "
            f"{median(seconds[name]):.2f} | {difference.item():.1e} |"
        )


if __name__ == "__main__":
    main()
