"""How schedule optimizers look in every plot, and how a plot is framed and saved."""

import io
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fewstep.report.estimates import Line

# Okabe and Ito's colours, which the colour-blind tell apart; the markers do it without any colour.
STYLES = {
    "even": ("#0072B2", "o"),
    "quadratic": ("#E69F00", "s"),
    "log_snr": ("#009E73", "^"),
    "karras": ("#CC79A7", "v"),
    "tangent": ("#56B4E9", "P"),
    "elbo_dp": ("#D55E00", "D"),
}
OTHER_STYLES = (
    ("#332288", "X"),
    ("#882255", "<"),
    ("#117733", ">"),
    ("#AA4499", "p"),
    ("#999933", "h"),
    ("#44AA99", "d"),
)
INK, FAINT, GRID = "#222222", "#777777", "#e4e4e4"
DPI = 160


class Style(NamedTuple):
    """How a schedule optimizer looks in every plot."""

    colour: str
    marker: str


def styles(optimizers: Sequence[str]) -> dict[str, Style]:
    """A colour and a marker for each schedule optimizer, the same in every report for those of the package.

    Alternated in several rounds it keeps its colour, and its marker is their number.
    """
    lines = {name: Line(name) for name in optimizers}
    names = [line.untuned.optimizer for line in lines.values()]
    others = [name for name in dict.fromkeys(names) if name not in STYLES]
    looks = {
        name: Style(*(STYLES.get(name) or OTHER_STYLES[others.index(name) % len(OTHER_STYLES)])) for name in names
    }
    return {
        name: looks[name] if line.rounds == 1 else Style(looks[line.untuned.optimizer].colour, f"${line.rounds}$")
        for name, line in lines.items()
    }


def png(figure: Figure) -> bytes:
    """A figure as PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def frame(ax: Axes, title: str) -> None:
    """The plain look of every panel: title at the left, no box, faint ticks."""
    ax.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(FAINT)
    ax.tick_params(labelsize=8.5, color=FAINT, labelcolor=INK)
    ax.xaxis.label.set(size=9, color=INK)
    ax.yaxis.label.set(size=9, color=INK)
