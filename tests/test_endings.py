"""One set of end tokens for samplers, training, evaluation and export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from test_evaluation import evaluate
from test_fit import fit, make, scalars
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Completion
from stapo_pl.policy.endings import end_tokens
from stapo_pl.policy.export import export
from stapo_pl.policy.loading import load_config, load_tokenizer
from stapo_pl.policy.model import shipped_policy
from stapo_pl.rewards import Response
from stapo_pl.rollout.collector import decode

END, THINK, OTHER = 504, 506, 507
"""Tokens of the model below: what it writes at its end, a mark, and its tokenizer's eos."""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """The shipped policy, whose turns end in END, with a tokenizer whose eos is OTHER."""
    folder = tmp_path_factory.mktemp("model")
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


@pytest.mark.parametrize(
    "generation, config, more, expected, unknown",
    [
        (None, None, [], [OTHER], []),
        (None, END, [], [END, OTHER], []),
        (None, [END, 7], [], [7, END, OTHER], []),
        (END, 7, [], [END, OTHER], []),  # what is made for sampling goes before
        ([END, OTHER, END], None, [], [END, OTHER], []),
        ([], END, [3], [3, END, OTHER], []),
        ([END, 600, -1], None, [], [END, OTHER], [-1, 600]),
    ],
)
def test_the_set_is_that_of_tokenizer_generation_config_and_setting(
    model, tmp_path, generation, config, more, expected, unknown
):
    if generation is not None:
        content = json.dumps({"eos_token_id": generation})
        (tmp_path / "generation_config.json").write_text(content)
    settings = load_config(str(model))
    settings.eos_token_id = config
    found = end_tokens(str(tmp_path), load_tokenizer(str(model)), settings, more)
    assert (list(found.ids), list(found.unknown)) == (expected, unknown)
    assert f"<|endoftext|> ({OTHER})" in str(found)
    assert ("never written, without embedding: -1, 600" in str(found)) == (unknown != [])


def test_sets_that_end_nothing_are_refused(model, tmp_path):
    tokenizer, config = load_tokenizer(str(model)), load_config(str(model))
    with pytest.raises(ConfigError, match=r"data\.stop_token_ids: 600 is no token of the model"):
        end_tokens(str(model), tokenizer, config, [600])
    config.vocab_size = END
    with pytest.raises(ConfigError, match=r"no embedding for its end tokens \[504, 507\]"):
        end_tokens(str(model), tokenizer, config)
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"no generation_config\.json could be loaded"):
        end_tokens(str(tmp_path), tokenizer, config)


def test_a_model_whose_turns_end_in_another_token_than_its_eos(model, tmp_path, capsys):
    cli = make(
        tmp_path, "objective=grpo", f"model.path={model}", "trainer.max_epochs=1",
        "data.stop_token_ids=[0]", "data.validation.samples=1", task=("task.validation_size=48",),
    )  # fmt: skip
    curves = scalars(fit(cli))
    assert "ends at     ! (0), <|end|> (504), <|endoftext|> (507)\n" in capsys.readouterr().out
    assert curves["rollout/truncated_fraction"][0][1] < 0.2
    assert 0.4 < curves["val/accuracy_greedy"][0][1] < 0.7
    (checkpoint,) = cli.folder.glob("checkpoints/*.ckpt")
    export(checkpoint, tmp_path / "exported")
    written = GenerationConfig.from_pretrained(tmp_path / "exported")
    assert written.eos_token_id == [0, END, OTHER] and written.pad_token_id == 505


def test_an_evaluation_ends_at_the_same_tokens(model, tmp_path, capsys):
    folder = evaluate(tmp_path, f"model.path={model}", "benchmark.samples=1")
    assert "ends at         <|end|> (504), <|endoftext|> (507)\n" in capsys.readouterr().out
    lines = (folder / "arithmetic" / "T0.7-p0.9" / "completions-0.jsonl").read_text().splitlines()
    about, *kept = map(json.loads, lines)
    assert about["end tokens"] == [END, OTHER]
    assert sum(line["truncated"] for line in kept) < 4
    assert not any("<|end" in line["text"] for line in kept)
    with pytest.raises(SystemExit):
        evaluate(tmp_path, f"model.path={model}", "benchmark.samples=1", "data.stop_token_ids=[0]")
    assert "was made with end tokens=[504, 507], not [0, 504, 507]" in capsys.readouterr().err


def test_a_reward_sees_all_that_the_policy_wrote_but_the_ending(model):
    tokenizer = load_tokenizer(str(model))
    written = tokenizer.encode("<think>1 , 2</think> .")
    assert written[0] == THINK
    completions = [
        Completion([*written, END], [], truncated=False),
        Completion([*written, OTHER], [], truncated=False),
        Completion([*written, 505], [], truncated=True),
        Completion([END], [], truncated=False),
    ]
    text = "<think>1 , 2</think> ."
    assert decode(completions, tokenizer) == [
        Response(text, len(written) + 1, False),
        Response(text, len(written) + 1, False),
        Response(f"{text}{tokenizer.pad_token}", len(written) + 1, True),
        Response("", 1, False),
    ]
