"""What words of a command line resolve to. Nothing is built."""

from __future__ import annotations

import pytest

from stapo_pl.cli.evaluation_parser import make_parser
from stapo_pl.cli.fit import KINDS, StapoCLI
from stapo_pl.cli.grammar import EVALUATE, FIT, expand
from stapo_pl.cli.words import Words
from support.places import CONFIGS


class _Made(Exception):
    """Ends the making of a command line when its parser is there."""


class _OnlyParser(StapoCLI):
    def parse_arguments(self, parser, args):
        self.__class__.made = parser
        raise _Made


def make_parsers():
    """The parser, the grammar and the kinds of values of each command, by its name."""
    with pytest.raises(_Made):
        _OnlyParser([], CONFIGS)
    return {"fit": (_OnlyParser.made, FIT, KINDS), "evaluate": (make_parser(), EVALUATE, {})}


def resolved(parsers, *words: str) -> dict:
    """All settings, as words of a fit resolve them."""
    parser, grammar, kinds = parsers["fit"]
    args = Words(parser, grammar, CONFIGS, kinds).check(expand(words, CONFIGS, grammar))
    return parser.parse_args(args).as_dict()
