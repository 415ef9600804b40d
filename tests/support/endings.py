"""A model whose turns end in another token than its tokenizer's eos."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from stapo_pl.policy.model import shipped_policy

END, THINK, OTHER = 504, 506, 507


def make_model(folder: Path) -> Path:
    """The shipped policy, whose turns end in END, with a tokenizer whose eos is OTHER."""
    tokenizer = AutoTokenizer.from_pretrained(shipped_policy())
    policy = AutoModelForCausalLM.from_pretrained(shipped_policy())
    assert tokenizer.eos_token_id == END
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>"]})
    tokenizer.add_special_tokens({"eos_token": "<|endoftext|>"})
    assert tokenizer.convert_tokens_to_ids(["<think>", "<|endoftext|>"]) == [THINK, OTHER]
    policy.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        policy.get_input_embeddings().weight[THINK:] = 0
    policy.config.eos_token_id = OTHER
    policy.generation_config = GenerationConfig(eos_token_id=[END, OTHER], pad_token_id=505)
    policy.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
