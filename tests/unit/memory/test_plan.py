"""The memory plan: what it counts is what a real run holds."""

from __future__ import annotations

import copy
import gc
from functools import cache, partial

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from stapo_pl.cli.grammar import expand
from stapo_pl.core.batches import MicroBatch, Tokens
from stapo_pl.core.errors import ConfigError
from stapo_pl.memory.footprint import LiveBytes, measure_passes, measure_step
from stapo_pl.memory.plan import architecture, device_memory, plan_memory
from stapo_pl.policy.attention import PADDED
from stapo_pl.policy.lora import LoRA
from stapo_pl.policy.model import Policy
from stapo_pl.policy.statistics import largest_chunk
from stapo_pl.rollout.sizes import PassSize
from stapo_pl.samplers import Room, TransformersSampler, VLLMSampler
from stapo_pl.samplers.base import SamplerShare
from stapo_pl.samplers.memory import weight_bytes
from stapo_pl.samplers.vllm.memory import share_of_room
from stapo_pl.training.callbacks.sampler import SamplerCallback
from stapo_pl.training.planning import plan_run, planned_ranks
from stapo_pl.training.wiring import connect
from support.fitting import build
from support.places import CONFIGS

CPU, GPU = torch.device("cpu"), torch.device("cuda")
PUBLISHED = {"1.7B": 1_720_574_976, "8B": 8_190_735_360, "14B": 14_768_307_200}
SMALL = Qwen3Config(
    vocab_size=1000, hidden_size=256, intermediate_size=768, num_hidden_layers=4,
    num_attention_heads=4, num_key_value_heads=2, head_dim=64, tie_word_embeddings=False,
)  # fmt: skip
SIZES = {"sequences": 2, "prompt_tokens": 28, "response_tokens": 100}
ADAM, SGD = partial(torch.optim.AdamW, lr=1e-3), partial(torch.optim.SGD, lr=1e-3)

NO_SAMPLER = SamplerShare(0, 0, "")
PREPARE = {False: lambda policy: None, True: Policy.checkpoint_gradients}


@cache
def plan(config: Qwen3Config = SMALL, sampler: SamplerShare = NO_SAMPLER, **settings):
    settings = {"ranks": 1, "sharded": False, "on_gpu": False, **SIZES, **settings}
    return plan_memory(config, settings.pop("optimizer", ADAM), lambda room: sampler, **settings)


@pytest.mark.parametrize("size", PUBLISHED)
def test_shipped_shapes_have_the_published_number_of_parameters(size):
    assert weight_bytes(architecture(f"Qwen/Qwen3-{size}"), torch.int8) == PUBLISHED[size]


def test_only_the_hub_name_means_a_shipped_shape():
    with pytest.raises(ConfigError, match=r"model.path=/my/Qwen3-8B: no such folder"):
        architecture("/my/Qwen3-8B")


def real_step_bytes(optimizer) -> int:
    parameter = torch.nn.Parameter(torch.ones(300, 500))
    parameter.grad = torch.ones_like(parameter)
    made = optimizer([parameter])
    made.step()
    return sum(
        t.numel() * t.element_size() for t in made.state[parameter].values() if t is not None
    )


@pytest.mark.parametrize(
    "optimizer, per_parameter",
    [(ADAM, 8), (partial(ADAM, amsgrad=True), 12), (SGD, 0), (partial(SGD, momentum=0.9), 4)],
)
def test_optimizer_state_is_that_of_a_real_one(optimizer, per_parameter):
    with torch.device("meta"):
        parameter = torch.nn.Parameter(torch.ones(300, 500))
    state = measure_step([parameter], optimizer, on_gpu=False).state
    assert state == real_step_bytes(optimizer) == pytest.approx(150_000 * per_parameter, abs=8)


def test_a_step_of_all_parameters_at_once_takes_more_than_one_by_one():
    with torch.device("meta"):
        parameters = [torch.nn.Parameter(torch.ones(1000)) for _ in range(10)]
    one_by_one = measure_step(parameters, ADAM, on_gpu=False)
    at_once = measure_step(parameters, ADAM, on_gpu=True)
    assert at_once.state == one_by_one.state
    assert at_once.peak - at_once.state == pytest.approx(4 * 10 * 1000, rel=0.01)
    assert one_by_one.peak - one_by_one.state < 4 * 4 * 1000


def test_frozen_parameters_have_no_state():
    with torch.device("meta"):
        parameter = torch.nn.Parameter(torch.ones(1000), requires_grad=False)
        trained = torch.nn.Parameter(torch.ones(10))
    assert measure_step([parameter, trained], ADAM, on_gpu=False).state < 100


def real_micro_batch() -> MicroBatch:
    sequences, prompt, response = SIZES.values()
    ids_BS = torch.randint(0, SMALL.vocab_size, (sequences, prompt + response))
    places = torch.arange(prompt - 1, prompt + response - 1)
    predictor_T = torch.cat([row * (prompt + response) + places for row in range(sequences)])
    values_T = torch.zeros(len(predictor_T))
    tokens = Tokens(ids_BS[:, prompt:].flatten(), predictor_T, values_T, values_T)
    lengths = [prompt + response] * sequences
    return MicroBatch(ids_BS.flatten(), lengths, predictor_T, tokens, temperature=1.0)


def saved_bytes(policy: Policy, batch: MicroBatch) -> int:
    """What autograd itself says that it keeps: counted on real tensors, with nothing of ours."""
    weights = {p.untyped_storage().data_ptr() for p in policy.parameters()}
    saved: dict[int, tuple[int, torch.Tensor]] = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so no address is reused
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        policy(batch)
    return sum(size for size, _ in saved.values())


def test_activations_are_what_autograd_saves():
    policy = Policy(Qwen3ForCausalLM(SMALL)).train()
    assert policy.model.config._attn_implementation == PADDED
    planned = measure_passes(SMALL, **SIZES).kept
    assert planned == pytest.approx(saved_bytes(policy, real_micro_batch()), rel=0.01)


def real_peak(policy: Policy, batch: MicroBatch) -> tuple[int, int]:
    """Kept bytes and peak of the same passes on real tensors, by the profiler of torch."""
    gc.collect()  # else what earlier tests have left may be freed in between
    activities = [torch.profiler.ProfilerActivity.CPU]
    settings = {"activities": activities, "profile_memory": True}
    with torch.profiler.profile(**settings) as forward:
        statistics = policy(batch)
    with torch.profiler.profile(**settings) as backward:
        statistics.logprobs_T.sum().backward()
    kept, peak = running(forward)[-1], max(running(forward))
    return kept, max(peak, kept + max(running(backward)))


def running(profile: torch.profiler.profile) -> list[int]:
    """Bytes that are there after each allocation and release."""
    totals, total = [0], 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            total += event.nbytes()
            totals.append(total)
    return totals


@pytest.mark.parametrize("checkpointing", [False, True])
def test_passes_are_what_real_tensors_take(checkpointing):
    policy = Policy(Qwen3ForCausalLM(SMALL)).train()
    PREPARE[checkpointing](policy)
    batch = real_micro_batch()
    planned = measure_passes(SMALL, prepare=PREPARE[checkpointing], **SIZES)
    for parameter in policy.parameters():  # what the plan counts on a line of its own
        parameter.grad = torch.zeros_like(parameter)
    kept, peak = real_peak(policy, batch)
    assert planned.kept == pytest.approx(kept, rel=0.01)
    assert max(planned.head, planned.layers) == pytest.approx(peak, rel=0.01)


def test_checkpointing_keeps_only_what_enters_the_layers():
    per_layer = {}
    for checkpointing in (False, True):
        deep = Qwen3Config.from_dict(
            SMALL.to_dict() | {"num_hidden_layers": 5, "layer_types": None}
        )
        less, more = (
            measure_passes(config, prepare=PREPARE[checkpointing], **SIZES).kept
            for config in (SMALL, deep)
        )
        per_layer[checkpointing] = more - less
    assert per_layer[True] == 4 * 2 * 128 * 256  # hidden states in fp32
    assert per_layer[False] > 10 * per_layer[True]


def test_planning_leaves_random_states_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    plan.__wrapped__()
    assert torch.equal(before, torch.get_rng_state())


def test_live_bytes_count_no_view_and_forget_what_is_gone():
    known = torch.zeros(100)
    with LiveBytes([known]) as live:
        known.view(10, 10).add_(1)
        one = known + 1
        two = one[:50] * 2
        assert live.now == 400 + 200
        del two
        assert live.now == 400 and live.take_peak() == 600 and live.take_peak() == 400


def test_sharding_divides_and_gathers():
    whole, sharded = plan(), plan(ranks=8, sharded=True)
    for name in ("weights", "gradients", "optimizer"):
        assert sharded[name].passes == pytest.approx(whole[name].passes / 8, abs=1)
    assert sharded["gathered"].passes > 2 * 4 * SMALL.vocab_size * SMALL.hidden_size
    assert "gathered" not in [line.name for line in whole.lines]


def test_every_ddp_rank_holds_all_and_its_gradients_twice():
    whole, ddp = plan(), plan(ranks=8)
    assert ddp["weights"] == whole["weights"] and ddp["optimizer"] == whole["optimizer"]
    assert ddp["gradients"].passes == 2 * whole["gradients"].passes


def test_bfloat16_passes_keep_less():
    single, half = (
        plan(ranks=8, sharded=True, compute_dtype=dtype)["activations"].passes
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert 0.4 < half / single < 0.8


def test_autocast_keeps_casts_of_the_weights():
    whole = plan(compute_dtype=torch.bfloat16, sequences=1, prompt_tokens=1, response_tokens=1)
    assert whole["activations"].passes > whole["weights"].passes / 2 * 0.8


def test_heads_that_a_gpu_repeats_in_fp32_are_counted():
    """Per layer and token, of 4 heads and 2 of keys: keys and values of 2 heads more."""
    cpu, gpu = (plan(on_gpu=on_gpu)["activations"].passes for on_gpu in (False, True))
    more = 4 * 2 * 2 * 64 * 4 * 2 * 128
    assert gpu - cpu >= more * 0.9
    half = [plan(on_gpu=g, compute_dtype=torch.bfloat16)["activations"].passes for g in (0, 1)]
    assert half[0] == half[1]


def test_adapters_have_small_gradients_and_optimizer_state():
    whole, lora = plan(), plan(prepare=LoRA(rank=2).add_to)
    adapters = 4 * 2 * (2 * (256 + 256) + 2 * (256 + 128) + 3 * (256 + 768))
    assert lora["gradients"].passes == 4 * adapters
    assert lora["optimizer"].passes == pytest.approx(8 * adapters, rel=0.01)
    assert lora["weights"].passes == whole["weights"].passes + 4 * adapters
    assert lora["activations"].passes > 0


def test_what_is_offloaded_is_not_on_the_gpu():
    offloaded = plan(ranks=8, sharded=True, cpu_offload=True, on_gpu=True)
    for name in ("weights", "gradients", "optimizer"):
        assert (offloaded[name].passes, offloaded[name].step) == (0, 0)
        assert "GiB on the host" in offloaded[name].note
    assert offloaded["gathered"].passes > 0


def test_a_reference_is_one_more_set_of_weights():
    with_one = plan(needs_reference=True)
    assert with_one["reference"].rollout == with_one["weights"].rollout
    assert with_one.total.step - plan().total.step == with_one["weights"].step


def test_a_teacher_has_the_weights_of_its_own_model():
    larger = copy.deepcopy(SMALL)
    larger.vocab_size *= 3
    with_one = plan.__wrapped__(teacher=larger)
    assert with_one["teacher"].step > with_one["weights"].step
    assert with_one.total.step - plan().total.step == with_one["teacher"].step


def test_the_peak_is_that_of_the_worst_phase():
    greedy = SamplerShare(2**40, 0, "")
    assert plan().peak == plan().total.passes
    assert plan.__wrapped__(sampler=greedy).peak == plan().total.rollout + 2**40


def test_a_plan_that_does_not_fit_says_so():
    assert "DOES NOT FIT" in plan(device_bytes=2**20).describe()
    assert "DOES NOT FIT" not in plan(device_bytes=2**40).describe()


def test_the_plan_knows_the_larger_blocks_of_the_head_on_a_gpu():
    sizes = {"sequences": 40, "prompt_tokens": 28, "response_tokens": 100}
    heads = [measure_passes(SMALL, on_gpu=on_gpu, **sizes).head for on_gpu in (False, True)]
    # Log-probabilities, probabilities and gradients of hidden states of 1,024 tokens, or of 4,000.
    assert heads[1] - heads[0] == (4000 - 1024) * (2 * 1000 + 256) * 4
    assert largest_chunk(152_000, on_gpu=True) == 1766


def test_shares_of_the_samplers():
    weights = weight_bytes(SMALL, torch.float32)
    token = 2 * 4 * 2 * 64 * 4
    share = TransformersSampler(batch_size=3).share(SMALL, CPU, 128, Room())
    assert share.asleep == weights
    assert share.awake == weights + 3 * 152 * token * 5 // 4 + 3 * 1000 * 32
    room = Room(10**10, 2 * 10**9, 5 * 10**9)
    share = VLLMSampler(gpu_memory_utilization=0.4).share(SMALL, GPU, 128, room)
    assert (share.awake, share.asleep) == (4 * 10**9, 0)
    share = VLLMSampler(kv_cache_gib=2, sleep_level=0).share(SMALL, GPU, 128, room)
    assert share.awake == share.asleep == weights / 2 + 2 * 2**30
    share = VLLMSampler(tensor_parallel_size=2).share(SMALL, GPU, 128, Room())
    assert share.awake == (weights + 128 * token) / 4
    assert share.note == "vLLM: at least; it takes what is left of the device"


def test_vllm_takes_what_the_plan_leaves_less_a_margin():
    room = Room(10**10, 2 * 10**9, 5 * 10**9)
    # 80 % are left while it samples, half if it never sleeps; 8 % are the margin.
    for sleep_level, share in ((2, 0.72), (1, 0.72), (0, 0.42)):
        engine = VLLMSampler(sleep_level=sleep_level).share(SMALL, GPU, 128, room)
        assert engine.awake == pytest.approx(share * 10**10)
        assert engine.note == f"vLLM: {share} of the device, what is left"
    assert share_of_room(10**10, 10**10) == 0.9 and share_of_room(-(10**9), 10**10) == 0.01
    # Where less is left than it needs, the plan says that it does not fit.
    memory = 45 * 10**6
    made = plan_memory(
        SMALL, ADAM, partial(VLLMSampler().share, SMALL, GPU, 128),
        ranks=1, sharded=False, on_gpu=True, **SIZES, device_bytes=memory,
    )  # fmt: skip
    alone = plan(on_gpu=True, device_bytes=memory)
    assert made.room == Room(memory, alone.total.rollout, alone.peak)
    assert made["sampler"].note == "vLLM: weights and the KV cache of one sequence"
    assert "DOES NOT FIT" in made.describe()


def test_a_run_hands_the_plan_to_its_sampler(tmp_path):
    cli = build([], tmp_path)
    (callback,) = (c for c in cli.trainer.callbacks if isinstance(c, SamplerCallback))

    def plan_on(device: torch.device):
        longest = cli.datamodule.max_prompt_tokens, cli.datamodule.decoding.max_new_tokens
        parts = cli.model, None, cli.trainer.strategy, torch.float32, PassSize(64, *longest)
        return plan_run(*parts, sum(longest), device, device_memory(device, 1), ranks=1)

    cli.trainer.folder = cli.folder
    connect(cli.trainer, cli.model, cli.datamodule)
    assert callback.room == Room()  # on a CPU no plan is made
    cli.trainer.strategy._root_device = GPU
    connect(cli.trainer, cli.model, cli.datamodule)
    assert callback.room == plan_on(GPU).room
    assert callback.room.others_at_peak > callback.room.others > 0
    room = plan_on(CPU).room
    assert room.device > room.others_at_peak > room.others > 0


@pytest.mark.parametrize(
    "devices, ranks", [(8, 16), ("8", 16), ("0,3", 4), ([1, 2, 3], 6), ("auto", 2), (-1, 2)]
)
def test_ranks_of_machines_that_are_not_here(devices, ranks):
    assert planned_ranks(devices, nodes=2) == ranks


def test_a_model_file_leaves_the_rest_alone():
    assert expand(["model=qwen3_8b", "model.optimizer.lr=1"], CONFIGS) == [
        f"--model={CONFIGS / 'model' / 'qwen3_8b.yaml'}",
        "--model.optimizer.lr=1",
    ]
