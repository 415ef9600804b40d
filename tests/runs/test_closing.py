"""An engine is closed however a run ends."""

from __future__ import annotations

import lightning as L
import pytest

from stapo_pl.samplers import (
    TransformersSampler,
)
from stapo_pl.training.callbacks.sampler import SamplerCallback
from support.fitting import fit, make


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_an_engine_is_closed_after_an_exception(tmp_path, failure):
    class Failing(L.Callback):
        def on_after_backward(self, trainer, pl_module) -> None:
            assert any(p.grad is not None for p in pl_module.policy.parameters())
            raise failure

    closed = []
    cli = make(tmp_path, "objective=grpo")
    (callback,) = (c for c in cli.trainer.callbacks if isinstance(c, SamplerCallback))
    callback.engine = TransformersSampler()
    callback.engine.close = lambda: closed.append([p.grad for p in cli.model.policy.parameters()])
    with pytest.raises((failure, SystemExit)):  # Lightning makes the latter of an interrupt
        fit(cli, Failing())
    # Once, and with no gradient in the way of what a sleeping engine has to be given back.
    assert len(closed) == 1 and not any(grad is not None for grad in closed[0])
