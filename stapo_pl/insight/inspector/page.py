"""Writes the page: one HTML file that holds its data, its scripts and its styles."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from stapo_pl.core.errors import ConfigError

_FILES = Path(__file__).parent / "page"
_SCRIPTS = (
    "base.js",
    "overview.js",
    "rare.js",
    "tokens.js",
    "completions.js",
    "planes.js",
    "shares.js",
    "start.js",
)


def render(data: dict[str, Any]) -> str:
    """Returns the HTML of a page.

    Text of the model is in the data only. The data are JSON in which `<` is written as an escape,
    so that no text can end their element. The browser runs only scripts that carry the nonce of
    the page, and fetches nothing.

    Args:
        data: what the page shows, as `page_data` makes it.

    Raises:
        ConfigError: plotly or Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader
        from markupsafe import Markup
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError:
        raise ConfigError(
            "the page needs plotly, which is not installed: pip install stapo_pl[insight]"
        ) from None
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    text = text.replace("<", "\\u003c")
    templates = Environment(loader=FileSystemLoader(_FILES), autoescape=True)
    return templates.get_template("page.html").render(
        run=data["run"],
        data=Markup(text),
        nonce=hashlib.sha256(text.encode()).hexdigest()[:32],
        style=Markup((_FILES / "page.css").read_text()),
        scripts=[Markup(get_plotlyjs()), *(Markup((_FILES / f).read_text()) for f in _SCRIPTS)],
    )
