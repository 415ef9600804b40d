"""Which sampler a run gets that does not ask for one."""

from __future__ import annotations

import torch

from stapo_pl.samplers.base import Sampler
from stapo_pl.samplers.transformers import TransformersSampler
from stapo_pl.samplers.vllm import VLLMSampler, is_installed


def choose_sampler(device: torch.device) -> tuple[Sampler, str]:
    """vLLM where it is installed and `device` is a GPU, else transformers; and the reason."""
    if device.type != "cuda":
        return TransformersSampler(), "transformers, as there is no GPU"
    if not is_installed():
        return TransformersSampler(), "transformers, as vLLM is not installed"
    return VLLMSampler(), "vllm, as it is installed and there is a GPU"
