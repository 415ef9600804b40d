"""One set of end tokens for samplers, training, evaluation and export."""

from __future__ import annotations

import json

import pytest

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Completion
from stapo_pl.policy.endings import end_tokens
from stapo_pl.policy.loading import load_config, load_tokenizer
from stapo_pl.rewards import Response
from stapo_pl.rollout.collector import decode
from support.endings import END, OTHER, THINK

"""Tokens of the model below: what it writes at its end, a mark, and its tokenizer's eos."""


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
