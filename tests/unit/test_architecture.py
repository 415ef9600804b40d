"""Rooms import in one direction, and heavy packages appear only where they belong."""

from __future__ import annotations

import ast
from pathlib import Path

from support.places import ROOT

PACKAGE = ROOT / "stapo_pl"
# A room imports itself and those before it.
ROOMS = [
    "core", "rewards", "tasks", "policy", "samplers", "rollout", "objectives", "evaluation",
    "insight", "memory", "training", "cli",
]  # fmt: skip
LIGHTNING = {"training", "cli"}
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE]


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def test_every_room_imports_only_from_rooms_before_it():
    for path in FILES:
        own = room(path)
        for name in imports(path):
            if name.startswith("stapo_pl."):
                assert ROOMS.index(name.split(".")[1]) <= ROOMS.index(own), f"{path}: {name}"


def test_lightning_and_engines_stay_where_they_belong():
    for path in FILES:
        packages = {name.split(".")[0] for name in imports(path)}
        assert "lightning" not in packages or room(path) in LIGHTNING, path
        assert "vllm" not in packages or room(path) == "samplers", path


def test_parts_of_a_run_are_handed_over_not_fetched_through_the_trainer():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("datamodule", "lightning_module"):
                assert "trainer" not in ast.unparse(node.value), f"{path}: {ast.unparse(node)}"
