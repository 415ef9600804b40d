"""The head of the policy: statistics of response tokens without the matrix of all logits."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from stapo_pl.core.batches import TokenStatistics


def largest_chunk(vocabulary: int, on_gpu: bool) -> int:
    """The number of tokens of the largest [tokens, vocabulary] block that exists at a time.

    On a GPU a block takes at most 1 GiB of fp32. Smaller ones would be many, and each adds a whole
    [V, D] product to the gradient of the head. On a CPU it takes at most 128 MiB, and has no more
    tokens than caches like.
    """
    if on_gpu:
        return max(1, 2**28 // vocabulary)
    return max(1, min(1024, 2**25 // vocabulary))


@dataclass
class RareTokens:
    """Watches passes for rare tokens, and keeps what the policy would rather have written there.

    The head has all probabilities at hand, so this takes no further pass.
    """

    tau_p: float
    """The probability below which a token is rare."""
    count: int = 5
    """The number of alternatives that are kept of each rare token."""
    _seen: int = 0
    _found: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def look(self, logprobs_T: Tensor, p_TV: Tensor) -> None:
        """Looks at the next tokens, whose distributions are p_TV."""
        rows_N = (logprobs_T.exp() < self.tau_p).nonzero()[:, 0]
        if len(rows_N):
            top = p_TV[rows_N].topk(min(self.count, p_TV.shape[1]))
            self._found.append((rows_N + self._seen, top.indices, top.values))
        self._seen += len(logprobs_T)

    def take(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Returns what was found since the last call, or None if no token was rare.

        Returns:
            The places [N] of the rare tokens among all tokens of the passes since then, the most
            likely tokens there [N, count], and their probabilities [N, count].
        """
        found, self._found, self._seen = self._found, [], 0
        if not found:
            return None
        rows, ids, probabilities = (torch.cat(parts) for parts in zip(*found, strict=True))
        return rows, ids, probabilities


class _ChunkedStatistics(torch.autograd.Function):
    """The three statistics in chunks of tokens, recomputed in backward.

    With p = softmax(z), H its entropy and c = sum p^2, the gradients with respect to the logits z
    are onehot(y) - p, -p (log p + H) and 2 p (p - c).
    """

    @staticmethod
    def forward(
        ctx, hidden_TD, weight_VD, bias_V, targets_T, temperature, chunk_tokens, taught_N, watch
    ):
        ctx.temperature, ctx.chunk_tokens, ctx.taught_N = temperature, chunk_tokens, taught_N
        ctx.set_materialize_grads(False)  # most losses have no use for entropy's gradient
        dtype = torch.promote_types(hidden_TD.dtype, torch.float32)
        # Not three views of one tensor: FSDP warns of views.
        logprobs_T, entropy_T, collision_T = (
            hidden_TD.new_empty(len(targets_T), dtype=dtype) for _ in range(3)
        )
        for rows in _chunks(len(targets_T), chunk_tokens):
            logp, p = _distribution(hidden_TD[rows], weight_VD, bias_V, temperature)
            logprobs_T[rows] = logp.gather(-1, targets_T[rows, None])[:, 0]
            if watch is not None:
                watch.look(logprobs_T[rows], p)
            # In place, as new memory is slow; `vecdot` is slower still on a CPU.
            entropy_T[rows] = -logp.mul_(p).sum(-1)
            collision_T[rows] = p.square_().sum(-1)
            del logp, p  # or the next chunk's would be made beside these
        ctx.save_for_backward(hidden_TD, weight_VD, bias_V, targets_T, entropy_T, collision_T)
        return logprobs_T, entropy_T, collision_T

    @staticmethod
    def backward(ctx, grad_logprobs_T, grad_entropy_T, grad_collision_T):
        hidden_TD, weight_VD, bias_V, targets_T, entropy_T, collision_T = ctx.saved_tensors
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        # What is summed over chunks is kept in the wider type.
        wide = torch.promote_types(weight_VD.dtype, torch.float32)
        grad_hidden_TD = torch.zeros_like(hidden_TD) if needs_hidden else None
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=wide) if needs_weight else None
        grad_bias_V = torch.zeros_like(bias_V, dtype=wide) if needs_bias else None
        # The gradient of the logits is p * slope, and the log-prob's at the target. This is the
        # part of the slope that is the same for all of the vocabulary.
        offset_T = torch.zeros_like(entropy_T)
        if grad_logprobs_T is not None:
            offset_T -= grad_logprobs_T
        if grad_entropy_T is not None:
            offset_T -= grad_entropy_T * entropy_T
        if grad_collision_T is not None:
            offset_T -= 2 * grad_collision_T * collision_T
        taught_N, total = ctx.taught_N, len(targets_T)
        for rows in _chunks(total if taught_N is None else len(taught_N), ctx.chunk_tokens):
            rows = rows if taught_N is None else taught_N[rows]
            logp, p = _distribution(hidden_TD[rows], weight_VD, bias_V, ctx.temperature)
            slope = offset_T[rows, None]
            if grad_entropy_T is not None:
                slope = torch.addcmul(slope, logp, grad_entropy_T[rows, None], value=-1, out=logp)
            if grad_collision_T is not None:
                slope = torch.addcmul(slope, p, grad_collision_T[rows, None], value=2, out=logp)
            grad = p.mul_(slope)
            if grad_logprobs_T is not None:
                grad.scatter_add_(-1, targets_T[rows, None], grad_logprobs_T[rows, None])
            grad = _unscale_(grad, ctx.temperature).to(hidden_TD.dtype)
            if needs_hidden:
                grad_hidden_TD[rows] = grad @ weight_VD
            if needs_weight:
                _add_product_(grad_weight_VD, grad.T, hidden_TD[rows])
            if needs_bias:
                grad_bias_V += grad.sum(0)
            del logp, p, slope, grad
        if needs_weight:
            grad_weight_VD = grad_weight_VD.to(weight_VD.dtype)
        if needs_bias:
            grad_bias_V = grad_bias_V.to(bias_V.dtype)
        return grad_hidden_TD, grad_weight_VD, grad_bias_V, None, None, None, None, None


def _chunks(total: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


def _distribution(hidden_TD, weight_VD, bias_V, temperature) -> tuple[Tensor, Tensor]:
    """Log-probabilities and probabilities [T, V], at least in fp32; the only two of that size."""
    logits = F.linear(hidden_TD, weight_VD, bias_V)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logp = _unscale_(logits, temperature).log_softmax(-1)
    return logp, torch.exp(logp, out=logits)


def _unscale_(x: Tensor, temperature: float) -> Tensor:
    """`x /= temperature`, without a pass over memory where that changes nothing."""
    return x if temperature == 1 else x.div_(temperature)


def _add_product_(total: Tensor, a: Tensor, b: Tensor) -> None:
    """`total += a @ b`, without memory for the product where the types allow it."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b


def token_statistics(
    hidden_TD: Tensor,
    weight_VD: Tensor,
    targets_T: Tensor,
    *,
    bias_V: Tensor | None = None,
    temperature: float = 1.0,
    chunk_tokens: int | None = None,
    has_gradient_T: Tensor | None = None,
    watch: RareTokens | None = None,
) -> TokenStatistics:
    """Statistics of softmax((hidden @ weight.T + bias) / temperature), all three differentiable.

    The matrix [T, V] never exists whole: it is made `chunk_tokens` rows at a time (by default
    `largest_chunk`), and again in backward. The softmax is in fp32 at least; under autocast the
    product with the head is in autocast's type.

    Args:
        hidden_TD: last hidden states at the positions that predict the tokens.
        weight_VD: the language-model head.
        targets_T: the tokens.
        bias_V: the bias of the head, if it has one.
        temperature: what the logits are divided by.
        chunk_tokens: the number of rows that exist at a time.
        has_gradient_T: whether any term of the loss has a gradient at the token. Other tokens are
            left out of the backward pass. None if all may have one.
        watch: what is to look for rare tokens.
    """
    if torch.is_autocast_enabled(hidden_TD.device.type):
        dtype = torch.get_autocast_dtype(hidden_TD.device.type)
        hidden_TD, weight_VD = hidden_TD.to(dtype), weight_VD.to(dtype)
        bias_V = None if bias_V is None else bias_V.to(dtype)
    if chunk_tokens is None:
        chunk_tokens = largest_chunk(len(weight_VD), hidden_TD.is_cuda)
    taught_N = None
    if has_gradient_T is not None and torch.is_grad_enabled() and not has_gradient_T.all():
        taught_N = has_gradient_T.nonzero()[:, 0]
    with torch.autocast(hidden_TD.device.type, enabled=False):
        return TokenStatistics(
            *_ChunkedStatistics.apply(
                hidden_TD, weight_VD, bias_V, targets_T, temperature, chunk_tokens, taught_N, watch
            )
        )
