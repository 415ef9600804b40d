"""Keeps the tokens and completions of a run on disk, within a budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.seeding import seed_for
from stapo_pl.core.types import Rollout
from stapo_pl.insight import records
from stapo_pl.insight.rows import completion_columns, joined, near_rare, picked

Kept = Literal["auto", "all", "sampled", "rare", "none"]
_CONTEXT = 16
"""The number of tokens on either side of a rare token that are kept with it."""


@dataclass
class Recorder:
    """What a run keeps of its tokens. Completions are always kept.

    Args:
        tokens: which response tokens are kept. `all` keeps all that have a pass. `sampled` keeps
            some sequences whole, and all rare tokens with their neighbours. `rare` keeps these
            alone. `none` keeps none. `auto` is `all` in rollouts of at most `max_tokens` tokens,
            and `sampled` in larger ones.
        max_tokens: about how many tokens of a rollout, over all ranks, `auto` and `sampled` keep
            besides rare ones with their neighbours.
        every_n_rollouts: the number of rollouts from one whose tokens are kept to the next.
        max_gib: the size that all files of the run may reach, half of it for tokens and half for
            completions. Beyond it, the oldest rollouts are thinned to their rare tokens, then their
            files are removed. Files of the newest rollout always stay.

    Raises:
        ConfigError: a choice is unknown, or a number is out of range.
    """

    tokens: Kept = "auto"
    max_tokens: int = 200_000
    every_n_rollouts: int = 1
    max_gib: float = 2.0

    def __post_init__(self) -> None:
        if self.tokens not in get_args(Kept):
            accepted = ", ".join(get_args(Kept))
            raise ConfigError(f"recorder.tokens must be one of {accepted}, got {self.tokens}")
        for name in ("max_tokens", "every_n_rollouts"):
            if getattr(self, name) < 1:
                raise ConfigError(f"recorder.{name} must be at least 1, got {getattr(self, name)}")
        if not self.max_gib > 0:
            raise ConfigError(f"recorder.max_gib must be above 0, got {self.max_gib}")


@dataclass
class RecordFiles:
    """Collects the rows of a rollout on this rank, and writes them when the rollout ends."""

    recorder: Recorder
    """The settings."""
    folder: Path
    """The folder of the records in the run folder."""
    rank: int
    ranks: int
    seed: int
    """The seed of the run, which says which sequences `sampled` keeps."""
    thinned: int = 0
    """The number of files that were thinned to rare tokens to stay within the budget."""
    removed: int = 0
    """The number of files that were removed to stay within the budget."""
    _visits: list[dict[str, Any]] = field(default_factory=list)
    _sizes: dict[Path, int] = field(default_factory=dict)
    _full: set[Path] = field(default_factory=set)

    def resume(self, rollout: int) -> None:
        """Removes files of rollouts that are made again, and measures the others.

        Args:
            rollout: the number of the next rollout.
        """
        for kind in ("tokens", "completions"):
            for file in records.files_of(self.folder.parent, kind):
                rank = int(file.stem.rpartition("-")[2])
                is_mine = rank == self.rank or (self.rank == 0 and rank >= self.ranks)
                if is_mine and records.rollout_of(file) >= rollout:
                    file.unlink()
                elif is_mine:
                    self._note(file)

    def wants(self, rollout: int) -> bool:
        """Returns whether tokens of this rollout are kept."""
        return self.recorder.tokens != "none" and rollout % self.recorder.every_n_rollouts == 0

    def add(self, columns: dict[str, Any]) -> None:
        """Adds the rows of a mini-batch, see `rows.token_columns`."""
        self._visits.append(columns)

    @property
    def tokens(self) -> int:
        """The number of rows of tokens that were added since the last rollout."""
        return sum(int((visit["place"] != records.LEFT_OUT).sum()) for visit in self._visits)

    def take(self) -> list[dict[str, Any]]:
        """Returns the rows that were added since the last call."""
        visits, self._visits = self._visits, []
        return visits

    def write(
        self,
        visits: list[dict[str, Any]],
        number: int,
        rollout: Rollout,
        version: int,
        tokens: int,
        facts: records.Facts,
    ) -> None:
        """Writes the files of a rollout. This may run in another thread than the rest.

        Args:
            visits: what `take` returned.
            number: the number of the rollout in the run.
            rollout: the groups of this rank.
            version: the number of optimizer steps of the policy that made the rollout.
            tokens: the sum of `tokens` over all ranks, before `take`.
            facts: what is written with the tokens.
        """
        file = records.completion_file(self.folder, number, self.rank)
        records.write(file, completion_columns(rollout, number, version))
        self._note(file)
        if visits:
            columns = joined(visits)
            facts.total = int((columns["place"] != records.LEFT_OUT).sum())
            facts.tokens = self._choice(tokens)
            if facts.tokens != "all":
                keep = near_rare(columns, facts.tau_p, _CONTEXT)
                if facts.tokens == "sampled":
                    keep |= self._drawn(columns, number, self.recorder.max_tokens / max(tokens, 1))
                columns = picked(columns, keep)
            file = records.token_file(self.folder, number, self.rank)
            records.write(file, columns, facts)
            self._note(file)
        self._thin()

    def _choice(self, tokens: int) -> str:
        if self.recorder.tokens == "auto":
            return "all" if tokens <= self.recorder.max_tokens else "sampled"
        return self.recorder.tokens

    def _drawn(self, columns: dict[str, Any], rollout: int, share: float) -> np.ndarray:
        """Returns which rows belong to a sequence that is kept whole. It has no say of the rank."""
        names = columns["prompt"].astype(np.int64) << 16 | columns["sample"]
        different, inverse = np.unique(names, return_inverse=True)
        drawn = [
            seed_for(self.seed, "record", rollout, int(name)) < share * 2**56 for name in different
        ]
        return np.array(drawn, bool)[inverse]

    def _note(self, file: Path) -> None:
        """Remembers the size of a file, and whether it can be thinned."""
        self._sizes[file] = file.stat().st_size
        if file.name.startswith("tokens") and records.facts_of(file).tokens != "rare":
            self._full.add(file)

    def _thin(self) -> None:
        """Thins and removes the oldest files until those of this rank fit into their share."""
        budget = self.recorder.max_gib * 2**30 / self.ranks / 2
        for kind in ("tokens", "completions"):
            files = sorted(file for file in self._sizes if file.name.startswith(kind))
            excess = sum(self._sizes[file] for file in files) - budget
            for file in [f for f in files[:-1] if f in self._full]:
                if excess > 0:
                    excess -= self._sizes[file]
                    self._keep_rare(file)
                    excess += self._sizes[file]
            for file in files[:-1]:
                if excess > 0:
                    excess -= self._sizes.pop(file)
                    file.unlink()
                    self.removed += 1

    def _keep_rare(self, file: Path) -> None:
        columns, facts = records.read(file)
        keep = near_rare(columns, facts.tau_p, _CONTEXT)
        facts.tokens = "rare"
        records.write(file, picked(columns, keep), facts)
        self._full.remove(file)
        self._note(file)
        self.thinned += 1
