"""Errors that are meant for the person at the keyboard: one message, no traceback."""

from __future__ import annotations


class ConfigError(ValueError):
    """A setting is wrong. Says which, and what is accepted; raised before training starts."""


class TrainingError(RuntimeError):
    """Training cannot go on. Says at which step and why; the last checkpoint is intact."""


class Terminated(TrainingError):
    """Somebody asked the process to end, by SIGTERM."""
