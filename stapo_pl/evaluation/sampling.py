"""Samples what is missing, chunk by chunk; what is on disk is never sampled again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stapo_pl.core.seeding import seed_for
from stapo_pl.core.types import Decoding, Request
from stapo_pl.core.world import World
from stapo_pl.evaluation.model import SampledModel
from stapo_pl.evaluation.records import Journal, Place, completion_files
from stapo_pl.rollout.collector import respond


class SampleSet:
    """The samples of some prompts with one decoding, and the files that they are kept in.

    What is drawn at a place is a function of (`seed`, `name`, place), so it is the same whatever
    was interrupted, in whatever chunks and on however many ranks.

    Args:
        name: tells this set's random numbers from another's.
        folder: of the files; each rank writes one.
        prompt: token ids of the prompt of a place.
        about: what the prompts depend on; files made with something else are refused.
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
        """Those of these places that are not on disk yet.

        Raises:
            ConfigError: what is there was made with other settings.
        """
        there: set[Place] = set()
        for file in completion_files(self.folder):
            there |= Journal(file, self.settings).read().keys()
        return [place for place in places if place not in there]

    def complete(
        self, missing: Sequence[Place], chunk: int, progress: Callable[[int, str], None]
    ) -> None:
        """Samples these, each rank its share.

        Args:
            chunk: samples between two writes, on each rank: the most that a kill can cost.
            progress: called with the samples done, of all ranks if they are as fast as this one,
                and a note.
        """
        world, tokens = World(), 0
        mine = missing[world.rank :: world.size]
        journal = Journal(self.folder / f"completions-{world.rank}.jsonl", self.settings)

        def show(done: int) -> None:
            mean = f"{tokens / done:.0f} tokens each" if tokens else ""
            progress(min(done * world.size, len(missing)), mean)

        def show_from(start: int, done: int, total: int) -> None:
            show(start + done)

        # Ranks that hold one engine together must make the same calls.
        for start in range(0, -(-len(missing) // world.size), chunk):
            places = mine[start : start + chunk]
            requests = [
                Request(self.prompt(place), seed_for(self.seed, self.name, *place))
                for place in places
            ]
            _, responses = respond(
                requests,
                self.decoding,
                self.model.generate,
                self.model.tokenizer,
                partial(show_from, start),
            )
            journal.append(
                {place: vars(response) for place, response in zip(places, responses, strict=True)}
            )
            tokens += sum(response.tokens for response in responses)
            show(start + len(places))
