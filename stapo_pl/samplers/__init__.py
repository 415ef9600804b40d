"""One file an engine."""

from stapo_pl.samplers.auto import choose_sampler
from stapo_pl.samplers.base import Room, Sampler
from stapo_pl.samplers.transformers import TransformersSampler
from stapo_pl.samplers.vllm import VLLMSampler

__all__ = ["Room", "Sampler", "TransformersSampler", "VLLMSampler", "choose_sampler"]
