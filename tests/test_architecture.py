"""Imports point one way, and heavy packages appear only where they belong."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "stapo_pl"
ORDER = [
    "errors", "seeding", "sizes", "progress", "problems", "rewards", "estimators", "world", "tasks",
    "types", "tensors", "advantages", "objectives", "prompts", "rollout", "metrics", "attention",
    "policy", "lora", "loading", "endings", "streaming", "export", "samplers", "precision",
    "checkpoint", "strategy", "signals", "trainer", "footprint", "plan", "schedule", "module",
    "scoring", "validation", "datamodule", "shared_folder", "callbacks", "hints", "kinds",
    "overrides", "screen", "naming", "parser", "planning", "resuming", "runs", "checkpoints", "cli",
    "evaluation",
]  # fmt: skip
LIGHTNING = {
    "strategy", "signals", "trainer", "module", "datamodule", "checkpoint", "callbacks", "parser",
    "planning", "runs", "cli",
}  # fmt: skip


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def unit(name: str) -> str:
    """`stapo_pl.objectives.kl` is part of the unit `objectives`."""
    return name.split(".")[1]


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def test_every_file_imports_only_from_units_before_it():
    for path in FILES:
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in imports(path):
            if name.startswith("stapo_pl"):
                assert ORDER.index(unit(name)) <= ORDER.index(own), f"{path} imports {name}"


def test_lightning_and_engines_stay_where_they_belong():
    for path in FILES:
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        packages = {name.split(".")[0] for name in imports(path)}
        assert "lightning" not in packages or own in LIGHTNING, path
        assert "vllm" not in packages or path.name == "vllm.py", path
