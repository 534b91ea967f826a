"""The picture of a league: the places that every schedule optimizer may have."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fewstep.report.league.contests import Contest
from fewstep.report.league.ranks import Rank
from fewstep.report.league.tables import order
from fewstep.report.style import DPI, GRID, Style, frame, styles


def places_plot(contests: Sequence[Contest]) -> Figure:
    """A row of panels per quantity, a panel per K: a bar over the places of each, a mark at their middle."""
    names = order(contests)
    style, columns = styles(names), max(len(contest.steps) for contest in contests)
    size = (2.1 + 2.2 * columns, len(contests) * (0.21 * len(names) + 0.75))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.subplots(len(contests), columns, squeeze=False)
    for contest, line in zip(contests, axes, strict=True):
        for K, ax in zip(contest.steps, line, strict=False):
            _draw(ax, names, contest.ranks[K], style)
            frame(ax, f"{contest.name}\nK = {K}" if ax is line[0] else f"\nK = {K}")
            ax.set_yticks(range(len(names)), names if ax is line[0] else [""] * len(names))
        for ax in line[len(contest.steps) :]:
            ax.set_visible(False)
        line[0].set_xlabel("place, 1 being the lowest")
    return figure


def _draw(ax: Axes, names: Sequence[str], ranks: Mapping[str, Rank], style: Mapping[str, Style]) -> None:
    for y, name in enumerate(names):
        ax.axhline(y, color=GRID, linewidth=1, zorder=0)
        if name in ranks:
            rank, (colour, marker) = ranks[name], style[name]
            ax.plot([rank.best, rank.worst], [y, y], color=colour, linewidth=4, solid_capstyle="round", alpha=0.5)
            ax.plot([rank.middle], [y], color=colour, marker=marker, markersize=5)
    ax.set_xlim(0.5, len(names) + 0.5)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.tick_params(axis="y", length=0)
