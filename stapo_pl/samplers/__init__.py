"""One file an inference engine."""

from stapo_pl.samplers.base import Sampler
from stapo_pl.samplers.transformers import TransformersSampler

__all__ = ["Sampler", "TransformersSampler"]
