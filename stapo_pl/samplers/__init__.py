"""Inference engines that answer requests with completions. Each has its own copy of the weights.

`base.py` says what a `Sampler` does. Each engine is one file or folder: `transformers.py` needs
nothing but transformers, `vllm/` needs vLLM. `auto.py` chooses one of them. `identity.py` proves
that an engine holds the weights that it was sent, and `memory.py` gives the sizes of weights and
KV cache. A new engine is a new file with a subclass of `Sampler`, and a YAML in configs/sampler/.
"""

from stapo_pl.samplers.auto import choose_sampler
from stapo_pl.samplers.base import Room, Sampler
from stapo_pl.samplers.transformers import TransformersSampler
from stapo_pl.samplers.vllm.sampler import VLLMSampler

__all__ = ["Room", "Sampler", "TransformersSampler", "VLLMSampler", "choose_sampler"]
