"""A sampler that writes its responses down, or answers with those that were written down."""

from __future__ import annotations

from pathlib import Path

import torch

from stapo_pl.samplers import TransformersSampler


class Recording(TransformersSampler):
    def __init__(self, file: str, replay: bool) -> None:
        super().__init__()
        self.file, self.replay, self.seen = Path(file), replay, {}

    def build(self, *args) -> None:
        super().build(*args)
        if self.replay:
            self.seen = torch.load(self.file, weights_only=False)

    def load_weights(self, weights) -> None:
        if self.replay:
            for _ in weights:  # all ranks must take all of them
                pass
        else:
            super().load_weights(weights)

    def generate(self, requests, decoding, ended):
        if self.replay:
            return [self.seen[r.seed, decoding.temperature] for r in requests]
        completions = super().generate(requests, decoding, ended)
        for request, completion in zip(requests, completions, strict=True):
            self.seen[request.seed, decoding.temperature] = completion
        return completions

    def close(self) -> None:
        if not self.replay:
            torch.save(self.seen, self.file)
        super().close()
