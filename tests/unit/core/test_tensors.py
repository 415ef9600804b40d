"""Token statistics, quantiles and weights."""

from __future__ import annotations

import pytest
import torch

from stapo_pl.core.tensors import quantile, token_weights
from stapo_pl.core.world import World
from stapo_pl.memory.footprint import LiveBytes
from stapo_pl.policy.statistics import RareTokens, token_statistics


def plain_statistics(hidden, weight, targets, temperature, bias=None):
    """The textbook formulas on full logits."""
    logits = hidden @ weight.T / temperature
    if bias is not None:
        logits = (hidden @ weight.T + bias) / temperature
    p = torch.softmax(logits, -1)
    logp = torch.log(p)
    return logp[torch.arange(len(targets)), targets], -(p * logp).sum(-1), (p * p).sum(-1)


def inputs(generator, dtype, tokens=37, vocabulary=53, size=8):
    hidden = torch.randn(tokens, size, generator=generator, dtype=torch.float64)
    weight = torch.randn(vocabulary, size, generator=generator, dtype=torch.float64)
    bias = torch.randn(vocabulary, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, vocabulary, (tokens,), generator=generator)
    return hidden.to(dtype), weight.to(dtype), bias.to(dtype), targets


@pytest.mark.parametrize("chunk_tokens", [1, 5, 36, 37, 1000, None])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_statistics_and_gradients_equal_the_formulas(
    generator, chunk_tokens, temperature, dtype, tolerance
):
    hidden, weight, bias, targets = inputs(generator, dtype)
    coefficients = torch.randn(3, len(targets), generator=generator, dtype=torch.float64)
    ours_in = [x.clone().requires_grad_() for x in (hidden, weight, bias)]
    true_in = [x.double().requires_grad_() for x in (hidden, weight, bias)]
    ours = token_statistics(
        ours_in[0], ours_in[1], targets, bias_V=ours_in[2], temperature=temperature,
        chunk_tokens=chunk_tokens
    )  # fmt: skip
    ours = (ours.logprobs_T, ours.entropy_T, ours.collision_T)
    true = plain_statistics(true_in[0], true_in[1], targets, temperature, true_in[2])
    for mine, expected in zip(ours, true, strict=True):
        torch.testing.assert_close(mine.double(), expected, rtol=tolerance, atol=tolerance)
    sum((c * x).sum() for c, x in zip(coefficients.to(dtype), ours, strict=True)).backward()
    sum((c * x).sum() for c, x in zip(coefficients, true, strict=True)).backward()
    for mine, expected in zip(ours_in, true_in, strict=True):
        scale = expected.grad.abs().max()
        torch.testing.assert_close(
            mine.grad.double() / scale, expected.grad / scale, rtol=0, atol=tolerance
        )


def test_gradcheck(generator):
    hidden, weight, bias, targets = inputs(generator, torch.float64, tokens=5, vocabulary=7, size=3)

    def function(hidden, weight, bias):
        s = token_statistics(hidden, weight, targets, bias_V=bias, temperature=0.8, chunk_tokens=2)
        return s.logprobs_T, s.entropy_T, s.collision_T

    arguments = [x.requires_grad_() for x in (hidden, weight, bias)]
    assert torch.autograd.gradcheck(function, arguments)


@pytest.mark.parametrize("taught", [[], [0], [2, 3, 17, 36], list(range(37))])
@pytest.mark.parametrize("chunk_tokens", [3, 1000])
def test_tokens_without_gradient_have_no_backward_pass(generator, taught, chunk_tokens):
    hidden, weight, bias, targets = inputs(generator, torch.float64)
    has_gradient = torch.zeros(len(targets), dtype=torch.bool)
    has_gradient[taught] = True
    found, expected = [], []
    for gradients, mask, chosen in ((found, has_gradient, ...), (expected, None, has_gradient)):
        leaves = [x.clone().requires_grad_() for x in (hidden, weight, bias)]
        s = token_statistics(
            leaves[0], leaves[1], targets, bias_V=leaves[2], temperature=0.7,
            chunk_tokens=chunk_tokens, has_gradient_T=mask,
        )  # fmt: skip
        # All statistics are there, also where nothing is learned.
        assert all(x.isfinite().all() and len(x) == 37 for x in vars(s).values())
        (s.logprobs_T + s.entropy_T + 3 * s.collision_T)[chosen].sum().backward()
        gradients += [x.grad for x in leaves]
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunk_tokens", [3, 1000])
def test_alternatives_of_rare_tokens_are_those_of_full_logits(generator, chunk_tokens):
    hidden, weight, bias, targets = inputs(generator, torch.float64)
    watch, expected, seen = RareTokens(tau_p=0.02), [], 0
    for count in (20, 0, 17):  # several passes
        rows = slice(seen, seen + count)
        s = token_statistics(
            hidden[rows], weight, targets[rows], bias_V=bias, temperature=0.7,
            chunk_tokens=chunk_tokens, watch=watch,
        )  # fmt: skip
        p = ((hidden[rows] @ weight.T + bias) / 0.7).softmax(-1)
        for t in (s.logprobs_T.exp() < 0.02).nonzero()[:, 0].tolist():
            order = p[t].argsort(descending=True)[:5]
            expected.append((seen + t, order.tolist(), p[t, order].tolist()))
        seen += count
    rows, ids, probabilities = watch.take()
    assert len(expected) > 3 and watch.take() is None
    assert rows.tolist() == [row for row, _, _ in expected]
    assert ids.tolist() == [tokens for _, tokens, _ in expected]
    assert probabilities.tolist() == [pytest.approx(p, rel=1e-12) for _, _, p in expected]


@pytest.mark.parametrize("chunk_tokens", [10, 80])
def test_forward_and_backward_hold_two_blocks_at_a_time(generator, chunk_tokens):
    vocabulary = 4096
    hidden, weight, bias, targets = inputs(generator, torch.float32, 80, vocabulary)
    leaves = [x.requires_grad_() for x in (hidden, weight, bias)]
    with LiveBytes(leaves) as live:
        s = token_statistics(hidden, weight, targets, bias_V=bias, chunk_tokens=chunk_tokens)
        forward = live.take_peak()
        (s.logprobs_T + s.entropy_T + s.collision_T).sum().backward()
        backward = live.take_peak() - sum(x.grad.nbytes for x in leaves)
    block = 4 * chunk_tokens * vocabulary
    assert 2 * block <= forward < 2.5 * block
    assert 2 * block <= backward < 3.5 * block  # a product's operand in another order


def test_a_token_of_probability_zero_gives_no_nan():
    hidden = torch.tensor([[200.0]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0]])
    s = token_statistics(hidden, weight, torch.tensor([0]))
    (s.logprobs_T + s.entropy_T + s.collision_T).sum().backward()
    assert s.entropy_T.item() == 0 and s.collision_T.item() == 1
    assert hidden.grad.item() == 0


def test_no_tokens(generator):
    hidden, weight, bias, targets = inputs(generator, torch.float32, tokens=0)
    s = token_statistics(hidden.requires_grad_(), weight, targets, bias_V=bias)
    s.logprobs_T.sum().backward()
    assert len(s.entropy_T) == 0 and hidden.grad.shape == hidden.shape


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_the_head_in_its_type(generator, dtype):
    hidden, weight, _, targets = inputs(generator, torch.float32)
    with torch.autocast("cpu", dtype=dtype):
        ours = token_statistics(hidden.requires_grad_(), weight, targets)
    expected = token_statistics(hidden.to(dtype), weight.to(dtype), targets)
    assert ours.logprobs_T.dtype == torch.float32
    assert torch.equal(ours.logprobs_T, expected.logprobs_T)
    ours.logprobs_T.sum().backward()
    assert hidden.grad.dtype == torch.float32


@pytest.mark.parametrize("q", [0.0, 0.1, 0.5, 0.75, 0.8, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3, 10, 1001])
def test_quantile_is_that_of_torch(generator, q, n):
    values = torch.randn(n, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(quantile(values, q), torch.quantile(values, q), rtol=1e-15, atol=0)


def test_quantile_has_no_size_limit():
    n = 2**24 + 2
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(torch.zeros(n), 0.5)
    assert quantile(torch.arange(n, dtype=torch.float64), 0.5).item() == (n - 1) / 2


def test_weights_by_hand():
    sequence = torch.tensor([0, 0, 0, 1, 2, 2])
    mask = torch.tensor([True, False, True, False, True, True])

    def weights(aggregation, **kwargs):
        return token_weights(mask, sequence, aggregation, World(), **kwargs).tolist()

    # Sequence 1 is fully masked and does not count, but for Dr. GRPO's N.
    assert weights("token-mean") == [1 / 4, 0, 1 / 4, 0, 1 / 4, 1 / 4]
    assert weights("seq-mean-token-mean") == [1 / 4, 0, 1 / 4, 0, 1 / 4, 1 / 4]
    assert weights("seq-mean-token-sum") == [1 / 2, 0, 1 / 2, 0, 1 / 2, 1 / 2]
    assert weights("seq-mean-token-sum-norm", max_new_tokens=10) == [
        pytest.approx(w) for w in [1 / 30, 0, 1 / 30, 0, 1 / 30, 1 / 30]
    ]
    assert weights("token-mean", counted_T=torch.ones(6, dtype=torch.bool))[0] == 1 / 6


@pytest.mark.parametrize(
    "aggregation", ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum",
    "seq-mean-token-sum-norm"]
)  # fmt: skip
def test_weights_of_nothing_are_zero_and_finite(aggregation):
    mask = torch.zeros(3, dtype=torch.bool)
    weights = token_weights(mask, torch.tensor([0, 0, 1]), aggregation, World(), max_new_tokens=4)
    assert weights.tolist() == [0, 0, 0]
