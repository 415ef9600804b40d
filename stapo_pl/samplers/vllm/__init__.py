"""Sampling with vLLM: one engine in the process of each rank.

`sampler.py` holds the `VLLMSampler` and its settings, and decides with which arguments an engine
starts. `engine.py` runs one engine: start, weights, sampling, sleep, end. `requests.py` translates
requests and completions. `memory.py` says how much memory an engine needs, `folder.py` keeps the
model folder that vLLM wants, and `containment.py` undoes what vLLM does to the process that it
runs in. vLLM itself is imported when an engine starts, and only in this folder.
"""

from stapo_pl.samplers.vllm.sampler import VLLMSampler, is_installed

__all__ = ["VLLMSampler", "is_installed"]
