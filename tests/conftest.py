"""Random mini-batches and small models that the tests share."""

from __future__ import annotations

import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault(
    "CUDA_VISIBLE_DEVICES", ""
)  # the figures that tests compare with are the CPU's

from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.types import Completion, Problem, Prompt, Trajectory
from stapo_pl.objectives import Objective
from stapo_pl.policy.model import Policy
from stapo_pl.rewards import Score

CONFIGS = Path(__file__).parents[1] / "configs"
OBJECTIVES = sorted(path.stem for path in (CONFIGS / "objective").glob("*.yaml"))


def build_objective(name: str, **overrides) -> Objective:
    """The objective of configs/objective/<name>.yaml; `tau_p` is its selection's."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--objective", type=Objective)
    config = yaml.safe_load((CONFIGS / "objective" / f"{name}.yaml").read_text())
    if "tau_p" in overrides:
        config["init_args"]["selection"]["init_args"]["tau_p"] = overrides.pop("tau_p")
    config["init_args"] |= overrides
    return parser.instantiate(parser.parse_object({"objective": config})).objective


def random_minibatch(
    generator: torch.Generator, sequences: int = 6, longest: int = 12, dtype=torch.float64
) -> tuple[Tokens, TokenStatistics]:
    """Tokens and statistics in which rare tokens, ties and negative advantages are common."""

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=dtype)

    lengths = torch.randint(1, longest + 1, (sequences,), generator=generator)
    total = int(lengths.sum())
    sequence_T = torch.repeat_interleave(torch.arange(sequences), lengths)
    advantages = torch.randn(sequences, generator=generator, dtype=dtype).round(decimals=1)
    logprobs = -9 * rand(total)
    tokens = Tokens(
        token_ids_T=torch.randint(0, 50, (total,), generator=generator),
        sequence_T=sequence_T,
        advantages_T=advantages[sequence_T],
        sampler_logprobs_T=logprobs + 0.1 * (rand(total) - 0.5),
        old_logprobs_T=logprobs + 0.6 * (rand(total) - 0.5),
        reference_logprobs_T=logprobs + rand(total) - 0.5,
    )
    # Rounded, so that ties are common.
    entropy = (3 * rand(total)).round(decimals=1)
    return tokens, TokenStatistics(logprobs, entropy, rand(total))


def tiny_policy(
    vocabulary: int = 40, tied: bool = True, seed: int = 0, dtype=torch.float64, head_dim: int = 8
) -> Policy:
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=head_dim,
        max_position_embeddings=128, tie_word_embeddings=tied, eos_token_id=1, pad_token_id=0,
        bos_token_id=None, initializer_range=0.4,
    )  # fmt: skip
    return Policy(Qwen3ForCausalLM(config).to(dtype))


def trajectory(
    prompt_ids: list[int],
    response_ids: list[int],
    advantage: float = 1.0,
    *,
    mask: list[bool] | None = None,
    correct: bool = True,
    reward: float = 1.0,
    position: int = 0,
) -> Trajectory:
    return Trajectory(
        prompt=Prompt(prompt_ids, Problem([{"role": "user", "content": "?"}], "!"), position),
        completion=Completion(response_ids, [-1.0] * len(response_ids), truncated=False),
        text="",
        reward=reward,
        score=Score(reward, correct, None),
        response_mask=mask or [True] * len(response_ids),
        advantage=advantage,
    )


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def benchmark_folder() -> Path:
    """Of the six evaluation sets, which are no part of the project."""
    folder = os.environ.get("STAPO_BENCHMARKS")
    if folder is None:
        pytest.skip("STAPO_BENCHMARKS names no folder with the benchmark files")
    assert Path(folder).is_dir(), f"STAPO_BENCHMARKS={folder} is no folder"
    return Path(folder)
