"""Rooms import in one direction, and heavy packages appear only where they belong."""

from __future__ import annotations

import ast
from pathlib import Path

from support.places import ROOT

PACKAGE = ROOT / "stapo_pl"
# A room imports itself and those before it.
ROOMS = [
    "core", "rewards", "tasks", "policy", "samplers", "rollout", "objectives",
    "conformance", "evaluation", "insight", "memory", "training", "cli",
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
                assert is_own(node), f"{path}: {ast.unparse(node)}"


def test_the_package_is_thirteen_rooms():
    beside = {
        "assets", "README.md", "inspector.png", "py.typed", "__init__.py", "__pycache__",
    }  # fmt: skip
    assert {path.name for path in PACKAGE.iterdir()} - beside == set(ROOMS)


def test_no_file_is_long_and_the_loop_is_short():
    lengths = {path: len(path.read_text().splitlines()) for path in FILES}
    assert {path: n for path, n in lengths.items() if n > 300} == {}
    assert lengths[PACKAGE / "training" / "loop.py"] <= 150


def test_private_parts_of_lightning_are_touched_in_one_file():
    """A leading underscore is the file's own, or jsonargparse's in cli/."""
    for path in FILES:
        if room(path) not in LIGHTNING or path.name == "private.py":
            continue
        tree = ast.parse(path.read_text())
        own = {n.attr for n in ast.walk(tree) if is_own(n) and isinstance(n.ctx, ast.Store)}
        own |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        fields = [n.target for n in ast.walk(tree) if isinstance(n, ast.AnnAssign)]
        own |= {target.id for target in fields if isinstance(target, ast.Name)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                is_magic = node.attr.startswith("__")
                is_parsers = room(path) == "cli" and node.attr in ("_actions", "_typehint")
                assert (is_own(node) and node.attr in own) or is_magic or is_parsers, (
                    f"{path}: {ast.unparse(node)}"
                )
        for name in imports(path):
            if name.startswith("lightning"):
                assert not name.rpartition(".")[2].startswith("_"), f"{path}: {name}"


def is_own(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "cls")
