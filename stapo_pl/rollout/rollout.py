"""From prompts to scored groups, and from groups to balanced micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedTokenizerBase

from stapo_pl.core.batches import MicroBatch, Tokens
from stapo_pl.core.errors import TrainingError
from stapo_pl.core.seeding import seed_for
from stapo_pl.core.types import (
    Completion,
    Decoding,
    Problem,
    Prompt,
    Request,
    Response,
    Score,
    Trajectory,
)
from stapo_pl.core.world import World
from stapo_pl.objectives.base import Objective
from stapo_pl.rollout.advantages import group_advantages, mixed_groups
from stapo_pl.rollout.prompts import PromptStream

Generate = Callable[[Sequence[Request], Decoding], list[Completion]]
Grade = Callable[[Sequence[Response], Sequence[Problem]], list[Score]]


@dataclass
class Rollout:
    """The groups that this rank trains on, and what it saw on the way."""

    groups: list[list[Trajectory]]
    positions: list[int]
    """Place of each group among the groups of all ranks."""
    cursor: int
    """Position in the prompt stream after this rollout, the same on all ranks."""
    sampled: list[list[Trajectory]] = field(default_factory=list)
    """Every group that was sampled, whether it is trained on or not."""
    rounds: int = 1
    surplus_groups: int = 0
    """Mixed groups beyond the number needed, on all ranks."""
    discarded_groups: int = 0
    """Groups that dynamic sampling discarded because their rewards are equal, on all ranks."""


def overlong_punishment(length: int, max_new_tokens: int, buffer: float) -> float:
    """DAPO's equation 13 (2503.14476): 0 up to the buffer, then linear down to -1."""
    cache = buffer * max_new_tokens
    return min(0.0, (max_new_tokens - cache - length) / cache) if cache else 0.0


def decode(completions: Sequence[Completion], tokenizer: PreTrainedTokenizerBase) -> list[Response]:
    """Completions as a reward sees them: all that the policy wrote, without the end token.

    Special tokens within are kept, as the policy wrote them on purpose (`<think>`, calls of tools).
    """
    if not completions:
        return []  # a tokenizer takes an empty list for one empty text
    written = [c.token_ids if c.truncated else c.token_ids[:-1] for c in completions]
    texts = tokenizer.batch_decode(
        written, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return [
        Response(text, len(completion.token_ids), completion.truncated)
        for completion, text in zip(completions, texts, strict=True)
    ]


def sample_groups(
    prompts: Sequence[Prompt],
    group_size: int,
    *,
    generate: Generate,
    decoding: Decoding,
    grade: Grade,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    seed_key: tuple[int | str, ...],
) -> list[list[Trajectory]]:
    """Samples a group for each prompt, scores it and gives it advantages."""
    requests = [
        Request(prompt.token_ids, seed_for(*seed_key, prompt.position, sample))
        for prompt in prompts
        for sample in range(group_size)
    ]
    completions = generate(requests, decoding)
    responses = decode(completions, tokenizer)
    owners = [prompt for prompt in prompts for _ in range(group_size)]
    scores = grade(responses, [prompt.problem for prompt in owners])
    trajectories = []
    for prompt, completion, response, score in zip(
        owners, completions, responses, scores, strict=True
    ):
        length = len(completion.token_ids)
        punishment = overlong_punishment(length, decoding.max_new_tokens, objective.overlong_buffer)
        teaches = not (objective.overlong_filtering and completion.truncated)
        trajectories.append(
            Trajectory(
                prompt=prompt,
                completion=completion,
                text=response.text,
                reward=score.reward + punishment,
                score=score,
                response_mask=[teaches] * length,
                advantages=torch.zeros(length),
            )
        )
    groups = [trajectories[i : i + group_size] for i in range(0, len(trajectories), group_size)]
    if groups and group_size > 1:
        rewards_PG = torch.tensor([[t.reward for t in group] for group in groups])
        advantages_PG = group_advantages(rewards_PG, objective.advantage)
        for group, advantages in zip(groups, advantages_PG.tolist(), strict=True):
            for trajectory, advantage in zip(group, advantages, strict=True):
                trajectory.advantages += advantage
    return groups


def make_rollout(
    stream: PromptStream,
    cursor: int,
    prompts_per_rollout: int,
    sample: Callable[[list[Prompt]], list[list[Trajectory]]],
    objective: Objective,
    world: World,
    device: torch.device,
) -> Rollout:
    """Samples groups for the prompts from `cursor` on, until enough are kept.

    Rank r samples the prompts at positions r, r + size, ... of each round. Which groups are kept
    and where they stand depends on positions alone, not on the number of ranks.

    Raises:
        TrainingError: dynamic sampling found too few mixed groups, and is set to raise.
    """
    dynamic = objective.dynamic_sampling
    rollout = Rollout(groups=[], positions=[], cursor=cursor, rounds=0)
    kept_before = 0
    while True:
        mine = range(rollout.cursor + world.rank, rollout.cursor + prompts_per_rollout, world.size)
        groups = sample([stream[position] for position in mine])
        rollout.cursor += prompts_per_rollout
        rollout.rounds += 1
        rollout.sampled += groups
        if dynamic is None:
            rollout.groups = groups
            rollout.positions = list(range(world.rank, prompts_per_rollout, world.size))
            return rollout
        # Numbers the mixed groups of all ranks by their position in the stream.
        # A length's punishment makes no group mixed: it would keep those that are all right.
        rewards = torch.tensor([[t.score.reward for t in group] for group in groups], device=device)
        mixed = mixed_groups(rewards)
        flags = torch.zeros(prompts_per_rollout, dtype=torch.long, device=device)
        flags[world.rank :: world.size] = mixed.long()
        flags = world.sum(flags)
        places = (kept_before + flags.cumsum(0) - 1)[world.rank :: world.size].tolist()
        for group, place, keep in zip(groups, places, mixed.tolist(), strict=True):
            if keep and place < prompts_per_rollout:
                rollout.groups.append(group)
                rollout.positions.append(place)
        found = int(flags.sum())
        rollout.discarded_groups += prompts_per_rollout - found
        kept_before += found
        if kept_before >= prompts_per_rollout:
            rollout.surplus_groups = kept_before - prompts_per_rollout
            return rollout
        if rollout.rounds == dynamic.max_rounds:
            if dynamic.on_exhausted == "train":
                return _spread(rollout, kept_before, prompts_per_rollout)
            raise TrainingError(
                f"dynamic sampling found {kept_before} mixed groups (whose rewards differ) of the "
                f"{prompts_per_rollout} needed in {rollout.rounds} rounds; raise "
                "objective.dynamic_sampling.max_rounds, or set "
                "objective.dynamic_sampling.on_exhausted=train to train on what there is"
            )


def _spread(rollout: Rollout, found: int, wanted: int) -> Rollout:
    """Spreads too few groups evenly over a full rollout's places, and so over its mini-batches."""
    rollout.positions = [place * wanted // max(found, 1) for place in rollout.positions]
    return rollout


def mini_batches(rollout: Rollout, prompts_per_rollout: int, count: int) -> list[list[Trajectory]]:
    """Cuts a rollout into `count` mini-batches by the places of its groups; one may be empty."""
    batches: list[list[Trajectory]] = [[] for _ in range(count)]
    for group, place in zip(rollout.groups, rollout.positions, strict=True):
        batches[place * count // prompts_per_rollout] += group
    return batches


def balance(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Cuts sequences into `count` runs of like total length, sequences of like length together.

    Returns:
        Indices into `lengths`; no run is empty as long as there are `count` sequences.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    runs: list[list[int]] = []
    start, left = 0, sum(lengths)
    for remaining in range(count, 0, -1):
        share, end, taken = left / remaining, start, 0
        # Every later run still needs a sequence of its own.
        while end < len(order) - (remaining - 1) and (
            end == start or remaining == 1 or taken + lengths[order[end]] / 2 <= share
        ):
            taken += lengths[order[end]]
            end += 1
        runs.append(order[start:end])
        start, left = end, left - taken
    return runs


def collate(
    trajectories: Sequence[Trajectory], first_sequence: int, temperature: float
) -> MicroBatch:
    """Lays trajectories end to end, and their response tokens.

    Args:
        first_sequence: number of the first trajectory within its mini-batch.
    """
    if not trajectories:
        # Every rank must make the same passes: a micro-batch without sequences is one token that
        # teaches nothing.
        nothing = torch.zeros(0)
        none = torch.zeros(0, dtype=torch.long)
        ids_S = torch.zeros(1, dtype=torch.long)
        return MicroBatch(ids_S, [1], none, Tokens(none, none, nothing, nothing), temperature)
    ids, predictor, sequence, columns = [], [], [], []
    start = 0
    for number, trajectory in enumerate(trajectories, first_sequence):
        prompt, completion = trajectory.prompt.token_ids, trajectory.completion
        ids += prompt + completion.token_ids
        mask = torch.tensor(trajectory.response_mask)
        places = torch.arange(len(prompt), len(trajectory))[mask]
        predictor.append(start + places - 1)
        sequence.append(torch.full_like(places, number))
        columns.append(
            (
                torch.tensor(completion.token_ids)[mask],
                trajectory.advantages[mask],
                torch.tensor(completion.logprobs)[mask],
            )
        )
        start += len(trajectory)
    token_ids, advantages, logprobs = (torch.cat(column) for column in zip(*columns, strict=True))
    tokens = Tokens(token_ids, torch.cat(sequence), advantages, logprobs)
    lengths = [len(trajectory) for trajectory in trajectories]
    return MicroBatch(torch.tensor(ids), lengths, torch.cat(predictor), tokens, temperature)


def micro_batches(
    trajectories: Sequence[Trajectory], count: int, temperature: float
) -> list[MicroBatch]:
    """Cuts a mini-batch into `count` micro-batches of like token count."""
    batches, first_sequence = [], 0
    for run in balance([len(t) for t in trajectories], count):
        chosen = [trajectories[i] for i in run]
        batches.append(collate(chosen, first_sequence, temperature))
        first_sequence += len(chosen)
    return batches
