"""All that this project touches of Lightning's private parts.

Lightning 2.6 has no public way to these; a new release of it is checked here first.
"""

from __future__ import annotations

import lightning as L


def is_inside_mini_batch(trainer: L.Trainer) -> bool:
    """Whether the optimizer step that the present micro-batch belongs to is still to come."""
    return trainer.fit_loop._should_accumulate()


def forget_logged(trainer: L.Trainer) -> None:
    """Drops what was logged, so that a skipped step does not log the step before it again."""
    trainer._results.reset()


def validate(trainer: L.Trainer) -> None:
    """Makes one validation, as Lightning's own training loop does it between batches."""
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True


def validate_after_training(trainer: L.Trainer) -> None:
    """Makes one validation whose curves stand at the last step, not at a step after it."""
    trainer.fit_loop.epoch_loop._batches_that_stepped -= 1
    validate(trainer)
    trainer.fit_loop.epoch_loop._batches_that_stepped += 1
