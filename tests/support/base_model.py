"""A tiny random model like Qwen3-1.7B-Base, and rows like those of DAPO-Math-17k."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

from stapo_pl.policy.model import shipped_policy

SHAPE = shipped_policy().parent / "shapes" / "Qwen3-1.7B.json"
END, TURN_END = "<|endoftext|>", "<|im_end|>"
ANSWERS = (1, 2, 3)
BOXES = [rf"\boxed{{{answer}}}" for answer in ANSWERS]  # tokens, so that a random model draws them
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WRAPPER = (
    "Solve the following math problem step by step. The last line of your response should be of "
    "the form Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n{}"
    '\n\nRemember to put your answer on its own line after "Answer:".'
)


def make_base_model(folder: Path, texts: Iterable[str]) -> Path:
    """The 1.7B's architecture made tiny. The tokenizer has a chat template, as those of -Base have.

    Args:
        folder: where the model and its tokenizer are saved.
        texts: what the tokenizer learns its merges from.
    """
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False),
    )
    trained.add_tokens(BOXES)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained, eos_token=END, pad_token=END)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", TURN_END]})
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    shape = json.loads(SHAPE.read_text())
    config = AutoConfig.for_model(**shape)
    config.update(
        {"vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 96, "head_dim": 32,
         "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
         "initializer_range": 0.2, "eos_token_id": tokenizer.eos_token_id}
    )  # fmt: skip
    config.layer_types = config.layer_types[:2]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    model.save_pretrained(folder)
    return folder


def dapo_rows(problems: int, copies: int) -> list[dict]:
    """Rows in DAPO-Math-17k's format and order: its copies lie far apart."""
    draw = random.Random(0)
    rows = [
        {
            "data_source": "math_dapo",
            "prompt": [{"content": WRAPPER.format(f"How many are left of {n}?"), "role": "user"}],
            "ability": "MATH",
            "reward_model": {"ground_truth": str(draw.choice(ANSWERS)), "style": "rule"},
            "extra_info": {"index": f"row-{n}"},
        }
        for n in range(problems)
    ]
    return rows * copies
