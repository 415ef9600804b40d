"""Samplers that write down what the shipped policy says, and that answer with what it said."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from stapo_pl.core.types import Completion
from stapo_pl.samplers import TransformersSampler
from stapo_pl.samplers.base import Sampler, SamplerShare
from support.places import GOLDEN

ROLLOUTS = GOLDEN / "rollouts.json.gz"


def read_rollouts(file: Path) -> dict[tuple[tuple[int, ...], int], Completion]:
    """Completions by the request that they answer: its prompt's ids and its seed."""
    rows = json.loads(gzip.decompress(file.read_bytes()))
    return {(tuple(prompt_ids), seed): Completion(*rest) for prompt_ids, seed, *rest in rows}


def write_rollouts(file: Path, completions: dict[tuple[tuple[int, ...], int], Completion]) -> None:
    """Four decimals of a log-probability: the file is small, and the trainer makes its own."""
    rows = [
        [prompt_ids, seed, c.token_ids, [round(x, 4) for x in c.logprobs], c.truncated]
        for (prompt_ids, seed), c in sorted(completions.items(), key=lambda item: item[0])
    ]
    text = json.dumps(rows, separators=(",", ":"))
    file.write_bytes(gzip.compress(text.encode(), mtime=0))


class Replay(Sampler):
    """Answers with recorded completions, whatever the policy has become.

    Args:
        file: made by `Record`.
    """

    def __init__(self, file: str = str(ROLLOUTS)) -> None:
        self.completions = read_rollouts(Path(file))

    def build(self, config, end_token_ids, device, max_tokens, room) -> None:
        pass

    def share(self, config, device, max_tokens, room) -> SamplerShare:
        return SamplerShare(0, 0, "replay: recorded completions")

    def load_weights(self, weights) -> None:
        for _ in weights:  # whoever streams them expects that they are all taken
            pass

    def generate(self, requests, decoding, ended):
        return [self.completions[tuple(r.prompt_ids), r.seed] for r in requests]

    def close(self) -> None:
        pass


class Record(TransformersSampler):
    """Samples from the first weights that it is given, and adds the completions to a file."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file, self.has_weights = Path(file), False
        self.completions = read_rollouts(self.file) if self.file.exists() else {}

    def load_weights(self, weights) -> None:
        if not self.has_weights:
            super().load_weights(weights)
        self.has_weights = True

    def generate(self, requests, decoding, ended):
        keys = [(tuple(r.prompt_ids), r.seed) for r in requests]
        if not all(key in self.completions for key in keys):
            answers = super().generate(requests, decoding, ended)
            for key, answer in zip(keys, answers, strict=True):
                self.completions.setdefault(key, answer)
        return [self.completions[key] for key in keys]

    def close(self) -> None:
        write_rollouts(self.file, self.completions)
        super().close()
