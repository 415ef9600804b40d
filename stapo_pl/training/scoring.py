"""What the policies say about a mini-batch before the policy is updated on it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stapo_pl.core.batches import MicroBatch, Tokens, TokenStatistics
from stapo_pl.training.module import PolicyModule


def statistics(micros: Sequence[MicroBatch], module: PolicyModule) -> TokenStatistics:
    """Statistics of a whole mini-batch under the policy as it is now, without gradient."""
    return TokenStatistics.cat([module.statistics(micro) for micro in micros])


def score(micros: Sequence[MicroBatch], module: PolicyModule) -> TokenStatistics:
    """Fills in the old log-probabilities of a mini-batch; returns all of its statistics."""
    behavior = statistics(micros, module)
    sizes = [len(micro.tokens) for micro in micros]
    for micro, logprobs_T in zip(micros, behavior.logprobs_T.split(sizes), strict=True):
        micro.tokens.old_logprobs_T = logprobs_T
    return behavior


def take_sampler_logprobs(micros: Sequence[MicroBatch]) -> None:
    """Fills in the old log-probabilities of a mini-batch with those of the sampler."""
    for micro in micros:
        micro.tokens.old_logprobs_T = micro.tokens.sampler_logprobs_T


def score_reference(micros: Sequence[MicroBatch], module: PolicyModule) -> None:
    """Fills in the reference log-probabilities of a mini-batch."""
    for micro in micros:
        micro.tokens.reference_logprobs_T = module.reference_statistics(micro).logprobs_T


def weigh(
    micros: Sequence[MicroBatch],
    behavior: TokenStatistics | None,
    module: PolicyModule,
    *,
    first: bool,
    max_new_tokens: int,
) -> list[MicroBatch]:
    """Copies of the micro-batches, with weights decided over the whole mini-batch and all ranks.

    Args:
        behavior: statistics from the scoring pass; None if there was none, as nothing asked.
        first: whether the policy is still the one that made the rollout.
        max_new_tokens: longest possible response.
    """
    objective, device = module.objective, module.device
    is_stale = objective.needs_current_statistics and not first
    current = statistics(micros, module) if is_stale else behavior
    weighed = [module.transfer_batch_to_device(micro, device, 0) for micro in micros]
    tokens = Tokens.cat([micro.tokens for micro in weighed])
    objective.set_weights(tokens, current, module.world, max_new_tokens)
    if is_stale and behavior is not None:
        by_behavior_T = objective.selection.select(tokens, behavior, module.world)
        drift_T = by_behavior_T != (tokens.weights_T != 0)
        module.step_metrics.update({"selection_drift": drift_T})
    empty = int(module.world.sum(torch.tensor(len(tokens), device=device))) == 0
    parts = tokens.split([len(micro.tokens) for micro in weighed])
    for micro, part in zip(weighed, parts, strict=True):
        micro.tokens, micro.empty = part, empty
    return weighed
