"""An engine that holds other weights than it was sent is found out, however it keeps them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from stapo_pl.core.errors import TrainingError
from stapo_pl.samplers import TransformersSampler
from stapo_pl.samplers.identity import Checksum, SentWeights
from support.sampling import build, small_policy

PACKED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}
HIDDEN, HEAD, VOCABULARY = 8, 2, 10
SHAPES = {
    "embed.weight": (VOCABULARY, HIDDEN),
    "q_proj.weight": (4 * HEAD, HIDDEN), "q_proj.bias": (4 * HEAD,),
    "k_proj.weight": (2 * HEAD, HIDDEN), "k_proj.bias": (2 * HEAD,),
    "v_proj.weight": (2 * HEAD, HIDDEN), "v_proj.bias": (2 * HEAD,),
    "o_proj.weight": (HIDDEN, 4 * HEAD),
    "norm.weight": (HIDDEN,),
    "gate_proj.weight": (12, HIDDEN), "up_proj.weight": (12, HIDDEN),
    "conv.weight": (HIDDEN, 12),
}  # fmt: skip


class Layer(nn.Module):
    """With the attributes that vLLM's have."""

    def __init__(self, ranks: int = 1, **parameters: torch.Tensor) -> None:
        super().__init__()
        self.tp_size = ranks
        for name, value in parameters.items():
            setattr(self, name, nn.Parameter(value.clone(), requires_grad=False))


def engine(weights: dict[str, torch.Tensor], rank: int, ranks: int) -> nn.Module:
    """A model laid out as vLLM's are, on one of several ranks: vocabularies are filled up, heads of
    keys are held several times where there are more ranks than heads."""

    def share(name: str, dim: int = 0) -> torch.Tensor:
        return weights[name].chunk(ranks, dim)[rank]

    def heads(name: str) -> torch.Tensor:
        replicas = max(1, ranks // 2)
        return weights[name].chunk(min(2, ranks))[rank // replicas]

    model = nn.Module()
    padded = torch.zeros(16, HIDDEN, dtype=weights["embed.weight"].dtype)
    padded[:VOCABULARY] = weights["embed.weight"]
    model.embed = Layer(ranks, weight=padded.chunk(ranks)[rank])
    model.embed.org_vocab_size, model.embed.tp_rank = VOCABULARY, rank
    for kind in ("weight", "bias"):
        rows = [share(f"q_proj.{kind}"), heads(f"k_proj.{kind}"), heads(f"v_proj.{kind}")]
        if kind == "weight":
            model.qkv_proj = Layer(ranks, weight=torch.cat(rows))
            model.qkv_proj.output_sizes = [len(part) * ranks for part in rows]
        else:
            model.qkv_proj.bias = nn.Parameter(torch.cat(rows))
    model.o_proj = Layer(ranks, weight=share("o_proj.weight", 1))
    model.norm = Layer(weight=weights["norm.weight"])
    model.gate_up_proj = Layer(
        ranks, weight=torch.cat([share("gate_proj.weight"), share("up_proj.weight")])
    )
    model.gate_up_proj.output_sizes = [12, 12]
    model.conv = Layer(weight=weights["conv.weight"].T.contiguous())
    return model


def sent(dtype: torch.dtype) -> tuple[SentWeights, dict[str, torch.Tensor]]:
    """What an fp32 policy sends, and what of it an engine of another type has."""
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    weights["norm.weight"][:2] = torch.tensor([-0.0, 1e-40])
    note = SentWeights(dtype)
    assert dict(note.noted(weights.items())).keys() == weights.keys()
    return note, {name: weight.to(dtype) for name, weight in weights.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_every_rank_of_an_engine_proves_its_part(dtype, ranks):
    note, weights = sent(dtype)
    for rank in range(ranks):
        assert note.compare(engine(weights, rank, ranks), PACKED, rank, ranks) == ([], [])


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("name", SHAPES)
def test_one_bit_of_one_number_is_found_out_and_named(name, ranks):
    note, weights = sent(torch.bfloat16)
    weights[name].view(-1).view(torch.int16)[3] ^= 1
    found = [
        note.compare(engine(weights, rank, ranks), PACKED, rank, ranks) for rank in range(ranks)
    ]
    assert {tuple(wrong) for wrong, _ in found} <= {(name,), ()} and ([name], []) in found


def test_rows_in_another_place_a_wrong_rank_and_what_was_not_sent_are_found_out():
    note, weights = sent(torch.float32)
    assert note.compare(engine(weights, 1, 2), PACKED, 0, 2)[0][0] == "q_proj.weight"
    swapped = weights | {"gate_proj.weight": weights["up_proj.weight"]}
    swapped["up_proj.weight"] = weights["gate_proj.weight"]
    wrong = ["gate_proj.weight", "up_proj.weight"]
    assert note.compare(engine(swapped, 0, 1), PACKED) == (wrong, [])
    turned = weights | {"o_proj.weight": weights["o_proj.weight"].roll(1, 1)}
    assert note.compare(engine(turned, 0, 1), PACKED) == (["o_proj.weight"], [])
    few = SentWeights(torch.float32)
    list(few.noted((n, w) for n, w in weights.items() if n not in ("k_proj.bias", "norm.weight")))
    assert few.compare(engine(weights, 0, 1), PACKED) == (["k_proj.bias"], ["norm.weight"])
    other = engine(weights, 0, 1)
    other.norm.weight = nn.Parameter(torch.zeros(3))
    assert note.compare(other, PACKED) == ([], ["norm.weight"])


def test_packed_copies_and_tied_heads_are_what_is_compared():
    """As on a CPU, where vLLM multiplies by a copy, and deletes what it was made from."""
    note, weights = sent(torch.float32)
    model = engine(weights, 0, 1)
    model.head = Layer()
    model.head.weight = model.embed.weight
    copies = {"head": model.embed.weight.clone(), "qkv_proj": model.qkv_proj.weight.clone()}
    for name, layer in (("head", model.head), ("qkv_proj", model.qkv_proj)):
        layer.cpu_linear = True
        layer.quant_method = SimpleNamespace(apply=lambda layer, x, name=name: x @ copies[name].T)
    model.qkv_proj.weight, model.qkv_proj.input_size = nn.Parameter(torch.empty(0)), HIDDEN
    assert note.compare(model, PACKED) == ([], [])
    copies["qkv_proj"][4 * HEAD, 1] += 1e-6
    assert note.compare(model, PACKED) == (["k_proj.weight"], [])
    copies["head"][3] = 0
    assert note.compare(model, PACKED)[0] == ["embed.weight (as head.weight)", "k_proj.weight"]


def test_large_matrices_are_looked_at_in_blocks(monkeypatch):
    weight = torch.randn(50, 7)
    whole = Checksum.of(weight, torch.float32)
    monkeypatch.setattr("stapo_pl.samplers.identity._BLOCK", 30)
    parts = Checksum.of(weight, torch.float32)
    assert torch.equal(parts.rows_N, whole.rows_N)
    assert torch.equal(parts.columns_K, whole.columns_K)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_the_transformers_sampler_proves_its_replica(tied):
    policy = small_policy(tied)
    sampler = build(TransformersSampler(), policy)
    norm = sampler.model.model.norm
    norm.weight.data = norm.weight.data.bfloat16()
    with torch.no_grad():
        policy.model.model.norm.weight.mul_(1.001)
    with pytest.raises(TrainingError, match=r"holds other weights .*: model\.norm\.weight$"):
        sampler.load_weights(policy.named_weights())
