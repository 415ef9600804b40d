"""The command `stapo`: its first word, and what is imported before the words are checked."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stapo_pl.cli.command import COMMANDS, main


def said(capsys, monkeypatch, *words: str) -> tuple[str, str, object]:
    monkeypatch.setattr(sys, "argv", ["stapo", *words])
    code = None
    try:
        main()
    except SystemExit as end:
        code = end.code
    return *capsys.readouterr(), code


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_it_lists_its_commands(words, capsys, monkeypatch):
    out, _, code = said(capsys, monkeypatch, *words)
    assert code is None and all(f"\n  {name} " in out for name in COMMANDS)


def test_a_misspelt_command_is_one_line(capsys, monkeypatch):
    _, error, code = said(capsys, monkeypatch, "fitt", "objective=stapo")
    assert code == 2 and error.startswith("error: fitt: no such command; did you mean fit?")


def test_misspelt_words_are_answered_before_anything_heavy_is_imported():
    code = (
        "import sys\nfrom stapo_pl.cli.command import main\nsys.argv = ['stapo', 'fit', 'lr=1']\n"
        "try: main()\nexcept SystemExit as end: sys.exit('torch' in sys.modules or end.code != 2)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
