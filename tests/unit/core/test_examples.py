"""The examples in docstrings of the core are true."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["core.types", "core.batches", "training.events"])
def test_examples(name):
    results = doctest.testmod(importlib.import_module(f"stapo_pl.{name}"))
    assert results.attempted > 0 and results.failed == 0
