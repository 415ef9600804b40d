"""What the policy itself says about a mini-batch before it is updated on it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stapo_pl.module import PolicyModule
from stapo_pl.types import MicroBatch, Tokens, TokenStatistics


def statistics(micros: Sequence[MicroBatch], module: PolicyModule) -> TokenStatistics:
    """Statistics of a whole mini-batch under the policy as it is now, without gradient."""
    return TokenStatistics.cat([module.statistics(micro) for micro in micros])


def score(micros: Sequence[MicroBatch], module: PolicyModule) -> TokenStatistics:
    """Fills in old (and reference) log-probabilities of a mini-batch; returns its statistics."""
    behavior = statistics(micros, module)
    sizes = [len(micro.tokens) for micro in micros]
    for micro, logprobs_T in zip(micros, behavior.logprobs_T.split(sizes), strict=True):
        micro.tokens.old_logprobs_T = logprobs_T
        if module.objective.needs_reference:
            reference = module.reference_statistics(micro)
            micro.tokens.reference_logprobs_T = reference.logprobs_T
    return behavior


def weigh(
    micros: Sequence[MicroBatch],
    behavior: TokenStatistics,
    module: PolicyModule,
    *,
    first: bool,
    max_new_tokens: int,
) -> list[MicroBatch]:
    """Copies of the micro-batches, with weights decided over the whole mini-batch and all ranks.

    Args:
        behavior: statistics of the mini-batch from the scoring pass.
        first: whether the policy is still the one that the scoring pass saw.
        max_new_tokens: longest possible response.
    """
    current = behavior
    if module.objective.needs_current_statistics and not first:
        current = statistics(micros, module)
    device = module.device
    weighed = [module.transfer_batch_to_device(micro, device, 0) for micro in micros]
    tokens = Tokens.cat([micro.tokens for micro in weighed])
    module.objective.set_weights(tokens, current, module.world, max_new_tokens)
    module.observe_selection(tokens, current, behavior)
    empty = int(module.world.sum(torch.tensor(len(tokens), device=device))) == 0
    parts = tokens.split([len(micro.tokens) for micro in weighed])
    for micro, part in zip(weighed, parts, strict=True):
        micro.tokens, micro.empty = part, empty
    return weighed
