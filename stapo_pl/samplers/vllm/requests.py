"""Requests in vLLM's words, and completions in ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stapo_pl.core.types import Completion, Decoding, Request


def sampling_params(request: Request, decoding: Decoding, end_token_ids: Sequence[int]) -> Any:
    """vLLM's SamplingParams for one request."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=decoding.max_new_tokens,
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        top_k=decoding.top_k,
        seed=request.seed,
        stop_token_ids=list(end_token_ids),
        ignore_eos=True,  # or vLLM would add the end tokens that the model's own config names
        logprobs=0,  # the log-probability of the drawn token, and of no other
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def completion(output: Any) -> Completion:
    """The completion that a CompletionOutput of vLLM holds.

    Raises:
        RuntimeError: the request ended for another reason than an end token or its length.
    """
    if output.finish_reason not in ("stop", "length"):
        raise RuntimeError(f"a request ended with {output.finish_reason}")
    steps = zip(output.logprobs, output.token_ids, strict=True)
    return Completion(
        token_ids=list(output.token_ids),
        logprobs=[logprobs[token].logprob for logprobs, token in steps],
        truncated=output.finish_reason == "length",
    )
