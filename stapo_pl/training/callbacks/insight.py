"""Shows what each optimizer step does to its tokens, and keeps the tokens on disk."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from stapo_pl.core.batches import MiniBatch, Tokens, TokenStatistics
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.world import World
from stapo_pl.insight import records, shadows
from stapo_pl.insight.classes import CLASSES, NO_SIGNAL, class_shares, classify, entropy_threshold
from stapo_pl.insight.effects import Effects, effects_of
from stapo_pl.insight.examples import Example, silenced_examples
from stapo_pl.insight.figures import entropies, silenced_and_kept
from stapo_pl.insight.recorder import Recorder, RecordFiles
from stapo_pl.insight.rows import token_columns
from stapo_pl.objectives import Objective
from stapo_pl.policy.statistics import RareTokens
from stapo_pl.training.events import MiniBatchDone, RolloutCollected, RolloutDone
from stapo_pl.training.loggers import log_rows
from stapo_pl.training.parts import Parts, RunCallback

# Silenced tokens that are shown as text, and the number of rollouts from one such text to the next.
_EXAMPLES, _EXAMPLES_EVERY = 10, 10


@dataclass
class Insight:
    """What a run shows of its tokens besides the curves that every run has.

    Args:
        shadows: other objectives, by name. Curves show what each of them would have done.
        recorder: which tokens are kept in the run folder.
    """

    shadows: dict[str, Objective] | None = None
    recorder: Recorder = field(default_factory=Recorder)


class TokenInsight(RunCallback):
    """Logs curves of tokens, and writes records of them into the run folder.

    Args:
        insight: what is shown and what is kept.

    Raises:
        ConfigError: an objective cannot be a shadow.
    """

    def __init__(self, insight: Insight | None = None) -> None:
        insight = insight or Insight()
        self.shadows, self.recorder = dict(insight.shadows or {}), insight.recorder
        for name, shadow in self.shadows.items():
            shadows.check_shadow(name, shadow)
        self._tokens_so_far = 0.0
        self._writing: Future[None] | None = None
        self._said: set[str] = set()
        """What people have been told. It is told once."""

    def state_dict(self) -> dict[str, Any]:
        return {"tokens_so_far": self._tokens_so_far}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._tokens_so_far = state_dict["tokens_so_far"]

    def connect(self, parts: Parts) -> None:
        self._module, self._data = parts.module, parts.data
        parts.events.listen(RolloutCollected, self._collected)
        parts.events.listen(MiniBatchDone, self._mini_batch_done)
        parts.events.listen(RolloutDone, self._rollout_done)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # All ranks must ask for the folder together, so it is not left to the first rank later.
        self._folder = Path(trainer.log_dir) / records.FOLDER

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._trainer, world = trainer, World()
        self._writer = ThreadPoolExecutor(1, "records")
        self._files = RecordFiles(
            self.recorder, self._folder, world.rank, world.size, self._data.seed
        )
        self._files.resume(trainer.current_epoch)
        objective = self._module.objective
        self._watch = RareTokens(objective.rare_probability)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_custom_scalars(_LAYOUT)

    def on_save_checkpoint(self, trainer, pl_module, checkpoint: dict[str, Any]) -> None:
        """Waits for the files. A run that goes on from here does not make this rollout again."""
        self._wait()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._wait()

    def _collected(self, event: RolloutCollected) -> None:
        self._rollout, self._metrics = event.rollout, event.metrics
        self._version = self._trainer.global_step
        self._facts = records.Facts(
            objective=type(self._module.objective).__name__,
            temperature=self._data.decoding.temperature,
            max_new_tokens=self._data.decoding.max_new_tokens,
            tau_p=self._module.objective.rare_probability,
        )
        self._examples: list[Example] = []
        keeps = self._files.wants(self._trainer.current_epoch)
        self._module.policy.watch = self._watch if keeps else None

    def _mini_batch_done(self, event: MiniBatchDone) -> None:
        alternatives = self._watch.take()
        tokens, statistics, mini_batch = event.tokens, event.statistics, event.mini_batch
        step = self._trainer.global_step
        every: int = self._trainer.log_every_n_steps  # type: ignore[attr-defined]  # by Lightning
        shows = every > 0 and (step + 1) % every == 0
        keeps = self._files.wants(self._trainer.current_epoch)
        if not shows and not keeps:
            return
        effects = self._effects(tokens, statistics)
        values, masks = self._figures(mini_batch, tokens, statistics, effects)
        if shows:
            self._log(values, step)
        if self._trainer.current_epoch % _EXAMPLES_EVERY == 0:
            self._examples += silenced_examples(
                mini_batch, tokens, statistics, alternatives, self._module.tokenizer,
                _EXAMPLES - len(self._examples),
            )  # fmt: skip
        if keeps:
            slopes_T = None if effects is None else effects.slopes_T
            self._files.add(
                token_columns(mini_batch, step, tokens, statistics, slopes_T, alternatives, masks)
            )

    def _figures(
        self,
        mini_batch: MiniBatch,
        tokens: Tokens,
        statistics: TokenStatistics,
        effects: Effects | None,
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Returns the curves of a step, and what each shadow keeps."""
        step, world, temperature = self._trainer.global_step, World(), self._facts.temperature
        correct_B = torch.tensor(
            [t.correct for t in mini_batch.trajectories], device=tokens.sequence_T.device
        )
        values = entropies(tokens, statistics, correct_B.bool(), world)
        masks: dict[str, Tensor] = {}
        if effects is None:
            return values, masks
        values |= silenced_and_kept(tokens, statistics, effects, world)
        whole, known = _whole(mini_batch, tokens, statistics)
        tau_h = entropy_threshold(self._module.objective, mini_batch, whole, known, world)
        if tau_h is not None:
            values["tokens/tau_h"] = self._facts.tau_h[step] = tau_h
            class_T = classify(tokens, statistics, self._facts.tau_p, tau_h)
            values |= class_shares(class_T, effects, len(whole) - len(tokens), world)
        if any(shadow.needs_all_statistics for shadow in self.shadows.values()):
            self._see_left_out(mini_batch, known, len(tokens))
        for name, objective in [*self.shadows.items()]:
            try:
                shadow = shadows.cast(
                    objective, whole, known, len(tokens), temperature,
                    self._facts.max_new_tokens, world,
                )  # fmt: skip
            except ConfigError as error:  # on all ranks
                rank_zero_warn(f"insight.shadows: {name} is not shown: {error}")
                del self.shadows[name]
                continue
            masks[f"kept_{name}"] = shadow.keeps_T
            kept_T = tokens.weights_T != 0
            found = shadows.compare(shadow, effects, kept_T, len(whole), world)
            values |= {f"shadows/{name}/{key}": value for key, value in found.items()}
        return values, masks

    def _effects(self, tokens: Tokens, statistics: TokenStatistics) -> Effects | None:
        """Returns the effects of tokens, or None if the formulas do not know the loss."""
        try:
            objective, temperature = self._module.objective, self._facts.temperature
            return effects_of(objective, statistics, tokens, temperature, World())
        except ConfigError as error:
            if "shares" not in self._said:
                self._said.add("shares")
                rank_zero_warn(f"no shares of tokens are shown: {error}")
            return None

    def _see_left_out(self, mini_batch: MiniBatch, known: TokenStatistics, passed: int) -> None:
        """Fills in the statistics of tokens without a pass, for shadows that look at all tokens."""
        if not mini_batch.left_out or self._module.objective.sees_all_tokens:
            return
        parts = [self._module.statistics(micro) for micro in mini_batch.left_out]
        seen = TokenStatistics.cat(parts)
        for name, column_T in vars(seen).items():
            getattr(known, name)[passed:] = column_T
        if "cost" not in self._said:
            self._said.add("cost")
            rank_zero_info(
                "insight.shadows: a selection that looks at all tokens costs a pass of those that "
                "teach nothing"
            )

    def _rollout_done(self, event: RolloutDone) -> None:
        trainer, metrics = self._trainer, self._metrics
        self._module.policy.watch = None
        self._tokens_so_far += metrics["rollout/tokens"]
        values = {"rollout/tokens_so_far": self._tokens_so_far}
        if self._module.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self._module.device)
            values["memory/device_gib"] = peak / 2**30
        self._log(values, trainer.global_step - 1)
        if self._examples:
            text = "\n\n---\n\n".join(example.markdown for example in self._examples)
            rows = [vars(example) for example in self._examples]
            folder, step = self._folder.parent, trainer.global_step - 1
            log_rows(trainer.loggers, folder, "silenced_tokens", rows, text, step)
        self._wait()
        files, device = self._files, self._module.device
        tokens = int(World().sum(torch.tensor(files.tokens, device=device)))
        # The next rollout is sampled meanwhile. `on_save_checkpoint` waits for the files.
        self._writing = self._writer.submit(
            files.write, files.take(), trainer.current_epoch, self._rollout, self._version, tokens,
            self._facts,
        )  # fmt: skip
        self._rollout = None

    def _wait(self) -> None:
        """Waits until the files of the rollout before are written."""
        if self._writing is None:
            return
        self._writing.result()
        self._writing = None
        for count, what in (
            (self._files.thinned, "keep only rare tokens"),
            (self._files.removed, "are removed"),
        ):
            if count and what not in self._said:
                self._said.add(what)
                rank_zero_info(
                    f"records have reached recorder.max_gib={self.recorder.max_gib:g}: from now "
                    f"on, those of the oldest rollouts {what}"
                )

    def _log(self, values: dict[str, float], step: int) -> None:
        """Gives curves to the loggers. `LightningModule.log` would take longer than the figures."""
        if self._trainer.is_global_zero:
            for logger in self._trainer.loggers:
                logger.log_metrics(values, step)


def _whole(
    mini_batch: MiniBatch, tokens: Tokens, statistics: TokenStatistics
) -> tuple[Tokens, TokenStatistics]:
    """Returns all tokens of a mini-batch, those without a pass last, and what is known of them.

    If the selection has looked at the tokens without a pass, their statistics are those. Otherwise
    they are those of certain tokens.
    """
    parts = [micro.tokens for micro in mini_batch.left_out]
    if not sum(map(len, parts)):
        return tokens, statistics
    device, count = tokens.sequence_T.device, sum(map(len, parts))
    if mini_batch.selected_by is not None:
        others = mini_batch.selected_by.split([len(tokens), count])[1]
    else:
        others = TokenStatistics.of_certain(count, device)
    # What has no pass may lack log-probabilities of the policy that made the rollout.
    filled = [replace(p, old_logprobs_T=p.sampler_logprobs_T) for p in parts]
    whole = Tokens.cat([tokens, *(part.to(device) for part in filled)])
    return whole, TokenStatistics.cat([statistics, others])


_LAYOUT = {
    "tokens": {
        title: ["Multiline", [f"tokens/{name}/{column}$" for name in (*CLASSES, NO_SIGNAL)]]
        for title, column in (
            ("share of tokens", "share"),
            ("share of the loss", "loss_share"),
            ("share of the squared gradient", "gradient_share"),
            ("push on the entropy", "entropy_push"),
        )
    }
}
