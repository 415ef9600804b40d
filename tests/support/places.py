"""Where things are that tests read."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
CONFIGS = ROOT / "configs"
GOLDEN = TESTS / "golden"
FIT = ROOT / "scripts" / "fit.py"
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("*/README.md"))]
OBJECTIVES = sorted(path.stem for path in (CONFIGS / "objective").glob("*.yaml"))
