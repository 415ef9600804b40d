"""Estimates of the KL divergence between the policy and another one, from sampled tokens."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Estimator = Literal["k1", "k2", "k3", "abs"]

# exp() of a larger log-ratio overflows, or it hides all other tokens. verl uses the same bound.
MAX_LOG_RATIO = 20.0
# k3 grows exponentially, so a single unlikely token would decide the mean of a batch. verl uses the
# same bound.
MAX_K3 = 10.0


def clamped_log_ratio(logprobs_T: Tensor, other_logprobs_T: Tensor) -> Tensor:
    """Returns `logprobs - other`, limited to the range from -20 to 20."""
    return (logprobs_T - other_logprobs_T).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def kl_divergence(logprobs_T: Tensor, other_logprobs_T: Tensor, estimator: Estimator) -> Tensor:
    """Returns an estimate [T] of KL(policy || other) for tokens drawn from the policy.

    Let r = log(other / policy). Then k1 is `-r`, k2 is `r^2 / 2`, k3 is `exp(r) - r - 1` but at
    most 10, and abs is `|r|` (http://joschu.net/blog/kl-approx.html). Use k1 only as a curve and
    not in a loss: its gradient is the gradient of the log-probability, whose mean is 0 whatever the
    other policy is.
    """
    if estimator == "k1":
        return logprobs_T - other_logprobs_T
    if estimator == "k2":
        return (logprobs_T - other_logprobs_T).square() / 2
    if estimator == "abs":
        return (logprobs_T - other_logprobs_T).abs()
    log_ratio = clamped_log_ratio(other_logprobs_T, logprobs_T)
    return (log_ratio.exp() - log_ratio - 1).clamp(max=MAX_K3)
