"""Draws compared curves as an image and as an interactive page, in one look."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path

from stapo_pl.core.errors import ConfigError
from stapo_pl.insight.compare import Band, Panel

_COLUMNS = (3, 4)  # panels beside each other, whichever leaves fewer places empty
# Ten colours that are told apart also by people who see few colours. Further settings have the
# same colours and other dashes.
_COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255",
    "#999933", "#888888",
)  # fmt: skip
_DASHES = {"-": "solid", "--": "dash", ":": "dot"}
"""The dashes of lines: matplotlib's names, and Plotly's."""
_FEW_POINTS = 12  # a line with at most so many points shows them
_BAND_OPACITY = 0.18
_X_TITLE = "optimizer step"
_CAPTION = "Lines are means over seeds. Bands go from the lowest to the highest seed."


def draw_png(file: Path, panels: Sequence[Panel], settings: Sequence[str]) -> None:
    """Draws the panels as an image that is 1200 pixels wide.

    Args:
        file: the file to write.
        panels: the curves.
        settings: the names of all settings, which have the same colour in every panel.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
        from matplotlib.ticker import MaxNLocator
    except ModuleNotFoundError:
        raise _missing("matplotlib") from None
    columns, rows = _grid(len(panels))
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    beside = _legend_columns(settings)
    height = 0.4 + 0.22 * ceil(len(settings) / beside) + 2.8 * rows
    figure = Figure(figsize=(12, height), dpi=100, layout=layout)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True)
    lines = {}
    for i, axis in enumerate(axes.flat):
        if i >= len(panels):
            axis.set_visible(False)
            continue
        panel = panels[i]
        axis.set_title(panel.curve, fontsize=11, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axis.tick_params(labelsize=9)
        if _is_share(panel.curve):
            axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")
        if i + columns >= len(panels):
            axis.set_xlabel(_X_TITLE, fontsize=9)
            axis.tick_params(labelbottom=True)
        for name, band in panel.bands.items():
            colour, dash = _look(settings.index(name))
            if _is_wide(band):
                axis.fill_between(
                    band.steps, band.low, band.high, color=colour, alpha=_BAND_OPACITY, linewidth=0
                )
            marker = "o" if _shows_points(band) else None
            (lines[name],) = axis.plot(
                band.steps, band.mean, color=colour, linestyle=dash, marker=marker, markersize=4,
                linewidth=1.6,
            )  # fmt: skip
    known = [name for name in settings if name in lines]
    figure.legend(
        [lines[name] for name in known], known, loc="outside upper left", frameon=False,
        ncols=beside, fontsize=10,
    )  # fmt: skip
    if _has_bands(panels):
        figure.supxlabel(_CAPTION, fontsize=9, color="#555555", x=0.01, ha="left")
    figure.savefig(file)


def draw_html(file: Path, panels: Sequence[Panel], settings: Sequence[str]) -> None:
    """Draws the panels as one page that contains all it needs, and fetches nothing.

    Args:
        file: the file to write.
        panels: the curves.
        settings: the names of all settings, which have the same colour in every panel.

    Raises:
        ConfigError: plotly is not installed.
    """
    try:
        from plotly.graph_objects import Figure, Scatter
        from plotly.subplots import make_subplots
    except ModuleNotFoundError:
        raise _missing("plotly") from None
    columns, rows = _grid(len(panels))
    figure: Figure = make_subplots(
        rows, columns, subplot_titles=[panel.curve for panel in panels],
        horizontal_spacing=0.06, vertical_spacing=0.3 / rows,
    )  # fmt: skip
    named: set[str] = set()
    for i, panel in enumerate(panels):
        place = {"row": i // columns + 1, "col": i % columns + 1}
        if _is_share(panel.curve):
            figure.update_yaxes(tickformat=".4~p", **place)
        if i + columns >= len(panels):
            figure.update_xaxes(title={"text": _X_TITLE, "standoff": 6}, **place)
        for name, band in panel.bands.items():
            colour, dash = _look(settings.index(name))
            if _is_wide(band):
                edge = Scatter(
                    x=[*band.steps, *band.steps[::-1]], y=[*band.high, *band.low[::-1]],
                    fill="toself", mode="none", fillcolor=colour, opacity=_BAND_OPACITY,
                    legendgroup=name, showlegend=False, hoverinfo="skip",
                )  # fmt: skip
                figure.add_trace(edge, **place)
            line = Scatter(
                x=band.steps, y=band.mean, name=name, legendgroup=name,
                showlegend=name not in named, line={"color": colour, "dash": _DASHES[dash]},
                mode="lines+markers" if _shows_points(band) else "lines",
            )  # fmt: skip
            figure.add_trace(line, **place)
            named.add(name)
    figure.update_layout(
        height=120 + 280 * rows, template="plotly_white", hovermode="x unified",
        font_size=11, margin={"l": 50, "r": 20},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1 + 0.16 / rows, "x": 0},
    )  # fmt: skip
    figure.update_annotations(font_size=13)  # the titles of the panels
    if _has_bands(panels):
        figure.add_annotation(
            text=_CAPTION, xref="paper", yref="paper", x=0, y=0, yshift=-75, showarrow=False,
        )  # fmt: skip
    figure.update_xaxes(matches="x")
    figure.write_html(file, include_plotlyjs=True)


def _grid(panels: int) -> tuple[int, int]:
    """Returns the numbers of columns and rows that hold so many panels."""
    columns = min(panels, min(_COLUMNS, key=lambda columns: -panels % columns))
    return columns, ceil(panels / columns)


def _look(number: int) -> tuple[str, str]:
    """Returns the colour and the dashes of a setting by its number."""
    turn, place = divmod(number, len(_COLOURS))
    return _COLOURS[place], [*_DASHES][turn % len(_DASHES)]


def _legend_columns(names: Sequence[str]) -> int:
    """Returns how many names of this length stand beside each other."""
    longest = max(map(len, names))
    return max(1, min(len(names), 150 // (longest + 6)))


def _is_share(curve: str) -> bool:
    return curve.startswith("val/") or curve.endswith("_fraction")


def _is_wide(band: Band) -> bool:
    return band.low != band.high


def _has_bands(panels: Sequence[Panel]) -> bool:
    return any(_is_wide(band) for panel in panels for band in panel.bands.values())


def _shows_points(band: Band) -> bool:
    return len(band.steps) <= _FEW_POINTS


def _missing(package: str) -> ConfigError:
    return ConfigError(
        f"stapo compare draws with {package}, which is not installed: "
        'pip install "stapo_pl[insight]"'
    )
