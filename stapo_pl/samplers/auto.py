"""Chooses a sampler for a run that names none."""

from __future__ import annotations

import torch

from stapo_pl.samplers.base import Sampler
from stapo_pl.samplers.transformers import TransformersSampler
from stapo_pl.samplers.vllm.sampler import VLLMSampler, is_installed


def choose_sampler(device: torch.device) -> tuple[Sampler, str]:
    """A sampler and the reason for it: vLLM if it is installed and `device` is a GPU.

    Otherwise it is transformers.
    """
    if device.type != "cuda":
        return TransformersSampler(), "transformers, as there is no GPU"
    if not is_installed():
        return TransformersSampler(), "transformers, as vLLM is not installed"
    return VLLMSampler(), "vllm, as it is installed and there is a GPU"
