"""Samples the completions that are missing on disk, and writes them chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stapo_pl.core.seeding import seed_for
from stapo_pl.core.types import Decoding, Request, Response
from stapo_pl.core.world import World
from stapo_pl.evaluation.model import SampledModel
from stapo_pl.evaluation.records import Journal, Place, completion_files
from stapo_pl.rollout.collector import respond


class SampleSet:
    """The completions of some prompts with one decoding, and the files that they are kept in.

    A place is a problem and the number of a sample. The random numbers at a place depend only on
    `seed`, `name` and the place. Interruptions, chunks and the number of ranks change nothing.

    Args:
        name: the name of the set. Sets with different names have different random numbers.
        folder: the folder of the files. Each rank writes one file.
        prompt: a function that returns the token ids of the prompt of a place.
        about: the settings that the prompts depend on. Files made with other settings are refused.
        decoding: the distribution that completions are drawn from.
        model: the model to sample from.
        seed: the seed of all random choices.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        prompt: Callable[[Place], list[int]],
        about: dict[str, Any],
        decoding: Decoding,
        model: SampledModel,
        seed: int,
    ) -> None:
        self.name, self.folder, self.prompt = name, folder, prompt
        self.decoding, self.model, self.seed = decoding, model, seed
        self.settings = {
            **model.about,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "seed": seed,
            **about,
        }

    def missing(self, places: Sequence[Place]) -> list[Place]:
        """Returns the places that have no completion on disk yet.

        Raises:
            ConfigError: files on disk were made with other settings.
        """
        there: set[Place] = set()
        for file in completion_files(self.folder):
            there |= Journal(file, self.settings).read().keys()
        return [place for place in places if place not in there]

    def complete(
        self, missing: Sequence[Place], chunk: int, progress: Callable[[int, str], None]
    ) -> None:
        """Samples the missing places. Each rank samples its share.

        Args:
            missing: the places, the same on all ranks.
            chunk: the number of samples that each rank makes between two writes. If the process is
                killed, at most so many are lost on each rank.
            progress: a function that is called with the number of samples that are done and with a
                note. The number counts all ranks, as if they were as fast as this one.
        """
        world, done, tokens = World(), 0, 0
        mine = missing[world.rank :: world.size]
        journal = Journal(self.folder / f"completions-{world.rank}.jsonl", self.settings)

        def heard(responses: dict[int, Response]) -> None:
            nonlocal done, tokens
            done += len(responses)
            tokens += sum(response.tokens for response in responses.values())
            mean = f"{tokens / done:.0f} tokens each" if done else ""
            progress(min(done * world.size, len(missing)), mean)

        # Ranks that share one sampler must make the same calls, so every rank makes as many chunks
        # as the rank with the most samples.
        for start in range(0, -(-len(missing) // world.size), chunk):
            places = mine[start : start + chunk]
            requests = [
                Request(self.prompt(place), seed_for(self.seed, self.name, *place))
                for place in places
            ]
            _, responses = respond(
                requests, self.decoding, self.model.generate, self.model.tokenizer, heard
            )
            journal.append(
                {place: vars(response) for place, response in zip(places, responses, strict=True)}
            )
