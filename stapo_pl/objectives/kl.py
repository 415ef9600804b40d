"""Estimators of the divergence between the policy and another one, from sampled tokens."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Estimator = Literal["k1", "k2", "k3", "abs"]

# exp() of a larger log-ratio overflows or drowns everything else; verl clamps here too.
MAX_LOG_RATIO = 20.0
# One far-off token would dominate a batch's k3, which grows exponentially; verl's bound.
MAX_K3 = 10.0


def clamped_log_ratio(logprobs_T: Tensor, other_logprobs_T: Tensor) -> Tensor:
    """`logprobs - other`, within +-20."""
    return (logprobs_T - other_logprobs_T).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def kl_divergence(logprobs_T: Tensor, other_logprobs_T: Tensor, estimator: Estimator) -> Tensor:
    """Per-token estimate of KL(policy || other) for tokens drawn from the policy.

    With r = log(other / policy): k1 is `-r`, k2 is `r^2 / 2`, k3 is `exp(r) - r - 1`, at most 10
    (http://joschu.net/blog/kl-approx.html), abs is `|r|`. k1 is to be measured only: its gradient
    is the score function, whose mean is 0 wherever the policy and the other one are.
    """
    if estimator == "k1":
        return logprobs_T - other_logprobs_T
    if estimator == "k2":
        return (logprobs_T - other_logprobs_T).square() / 2
    if estimator == "abs":
        return (logprobs_T - other_logprobs_T).abs()
    log_ratio = clamped_log_ratio(other_logprobs_T, logprobs_T)
    return (log_ratio.exp() - log_ratio - 1).clamp(max=MAX_K3)
