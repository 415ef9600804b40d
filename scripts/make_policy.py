r"""Makes the starting policy that is shipped: a small Qwen3 trained on noisy worked solutions.

    python scripts/make_policy.py --out stapo_pl/assets/arithmetic

Most demonstrations forget to carry in every addition, so greedy decoding is wrong wherever an
addition carries while sampling is often right: reinforcement learning has something real to learn.
A few words are replaced by random tokens, so the policy now and then says something odd inside a
correct solution, as large models do.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, get_scheduler

from stapo_pl.rewards import Response
from stapo_pl.tasks.arithmetic import Arithmetic, Expression, expressions

POSITIONS = 8192
OPENINGS = ["First,", "To begin,", "We start with", "Let us begin with", "Start:"]
CONNECTIVES = ["Then", "Next,", "Now", "After that,", "And then"]
RESTATEMENTS = [
    "That gives {c}.",
    "So we have {c}.",
    "The total is now {c}.",
    "We are at {c}.",
    "This makes {c}.",
]
CLOSINGS = ["So the answer is", "The answer is", "Therefore the result is", "Hence we get"]
COMMON_WORDS = """
a about add added all also answer are as at be because but by can carry check compute digit do each
equal equals find finally for from get has have here how if in into is it left let make minus more
must no not number of on one only or out over plus problem result right same see since solution
solve step subtract sum take ten that the there this times to total two units up use value wait we
what when where which will with write wrong x y zero
Let This So Wait But Since If Note Thus Check Step Find Compute
""".split()  # noqa: SIM905


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Single digits, operators and known words are tokens; everything else falls back to bytes."""
    texts = [*OPENINGS, *CONNECTIVES, *RESTATEMENTS, *CLOSINGS]
    words = sorted(
        {word.strip(".,:") for text in texts for word in text.split()} - {"{c}"} | set(COMMON_WORDS)
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = dict.fromkeys([*alphabet, *words, *("Ġ" + word for word in words), r"\boxed"])
    tokenizer = Tokenizer(
        models.BPE({token: i for i, token in enumerate(vocabulary)}, merges=[], ignore_merges=True)
    )
    split = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+|\\boxed|."), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        model_max_length=POSITIONS,
    )


def add_without_carry(a: int, b: int) -> int:
    return (a // 10 + b // 10) * 10 + (a + b) % 10


def demonstrate(expression: Expression, rng: random.Random, forget_carries: float) -> list[str]:
    """A worked solution in pieces: phrases, which noise may touch, and numbers in turns."""
    forgets = rng.random() < forget_carries
    total, pieces = expression.terms[0], []
    for i, term in enumerate(expression.terms[1:]):
        new = add_without_carry(total, term) if forgets and term > 0 else total + term
        lead = rng.choice(OPENINGS if i == 0 else CONNECTIVES)
        pieces += [("" if i == 0 else " ") + lead, f" {total}{term:+d}={new}."]
        total = new
        if rng.random() < 0.6:
            before, after = rng.choice(RESTATEMENTS).split("{c}")
            pieces += [" " + before.strip(), f" {total}{after}"]
    return [*pieces, " " + rng.choice(CLOSINGS), rf" \boxed{{{total}}}."]


def encode(
    expression: Expression, rng: random.Random, tokenizer, odd_tokens, args
) -> tuple[list[int], int]:
    """Token ids of question and solution, and where the solution starts."""
    question = tokenizer.encode(expression.question)
    solution = []
    for i, piece in enumerate(demonstrate(expression, rng, args.forget_carries)):
        ids = tokenizer.encode((" " if i == 0 else "") + piece)
        if i % 2 == 0:
            ids = [rng.choice(odd_tokens) if rng.random() < args.noise else token for token in ids]
        solution += ids
    return [*question, *solution, tokenizer.eos_token_id], len(question)


def batches(tokenizer, args):
    rng = random.Random(args.seed)
    stream = (e for e in expressions(rng, args.steps) if not e.is_validation)
    odd_tokens = [
        i
        for i in range(len(tokenizer))
        if re.fullmatch(r"[ -~]+", tokenizer.decode([i])) and i not in tokenizer.all_special_ids
    ]
    for _ in range(args.updates):
        rows = [
            encode(e, rng, tokenizer, odd_tokens, args) for e in islice(stream, args.batch_size)
        ]
        longest = max(len(ids) for ids, _ in rows)
        ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
        labels = torch.full((len(rows), longest), -100)
        for row, (tokens, start) in enumerate(rows):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            labels[row, start : len(tokens)] = torch.tensor(tokens[start:])
        yield ids, labels


@torch.no_grad()
def accuracy(model, tokenizer, task: Arithmetic, size: int, sample: bool) -> tuple[float, float]:
    """Share of validation problems answered correctly, and mean response length in tokens."""
    problems = task.validation_problems().problems[:size]
    tokenizer.padding_side = "left"
    inputs = tokenizer(
        [p.messages[0]["content"] for p in problems], return_tensors="pt", padding=True
    )
    inputs.pop("token_type_ids", None)
    out = model.generate(**inputs, do_sample=sample, top_k=0, max_new_tokens=128)[
        :, inputs["input_ids"].shape[1] :
    ]
    texts = tokenizer.batch_decode(out, skip_special_tokens=True)
    correct = [
        task.reward.score(Response(text), problem).correct
        for text, problem in zip(texts, problems, strict=True)
    ]
    if not sample:
        print(
            *(
                p.messages[0]["content"] + t
                for p, t in islice(zip(problems, texts, strict=True), 3)
            ),
            sep="\n",
        )
    return sum(correct) / size, (out != tokenizer.pad_token_id).sum(1).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--hidden", type=int, default=96)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--forget_carries", type=float, default=0.6)
    parser.add_argument("--noise", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    tokenizer = make_tokenizer()
    model = Qwen3ForCausalLM(
        Qwen3Config(  # type: ignore[call-arg]
            vocab_size=len(tokenizer), hidden_size=args.hidden, intermediate_size=3 * args.hidden,
            num_hidden_layers=args.layers, num_attention_heads=4, num_key_value_heads=2,
            head_dim=32, max_position_embeddings=POSITIONS, tie_word_embeddings=True,
            rope_theta=10_000.0, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
        )
    )  # fmt: skip
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens")
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=0.01
    )
    schedule = get_scheduler(
        "cosine", optimizer, num_warmup_steps=100, num_training_steps=args.updates
    )
    start = time.perf_counter()
    for update, (ids, labels) in enumerate(batches(tokenizer, args)):
        # Right padding is never attended to under a causal mask, and its labels are -100.
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if update % 100 == 0 or update == args.updates - 1:
            print(
                f"update {update} loss {loss.item():.4f} {time.perf_counter() - start:.0f} s",
                flush=True,
            )
    model.eval()
    task = Arithmetic(steps=args.steps)
    print("greedy (accuracy, tokens)", accuracy(model, tokenizer, task, 256, sample=False))
    print("sampled (accuracy, tokens)", accuracy(model, tokenizer, task, 256, sample=True))
    model.save_pretrained(args.out)
    make_tokenizer().save_pretrained(args.out)  # a new one: padding left its mark on the other


if __name__ == "__main__":
    main()
