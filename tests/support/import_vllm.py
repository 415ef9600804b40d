"""Imports vLLM as an engine does, for the process from which commands are forked."""

from stapo_pl.samplers.vllm.engine import prepare_vllm

prepare_vllm()

from vllm import LLM  # noqa: E402, F401
