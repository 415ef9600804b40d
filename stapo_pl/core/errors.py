"""Errors that are meant for the person at the keyboard: one message, no traceback."""

from __future__ import annotations


class ConfigError(ValueError):
    """A setting is wrong.

    The message says which setting it is, and what is accepted. The error is raised before training
    starts.
    """


class TrainingError(RuntimeError):
    """Training cannot go on.

    The message says at which step it stopped, and why. The last checkpoint is intact.
    """


class Terminated(TrainingError):
    """The process was asked to end by the signal SIGTERM."""
