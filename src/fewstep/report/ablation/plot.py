"""An ablation's plot: quantities against the setting that is varied."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from fewstep.report.style import DPI, GRID, Style, frame

LOG_SCALE_FROM = 3.0
LEGEND_MARK, LEGEND_LETTER = 0.6, 0.065  # inches
SIDE_BY_SIDE = 0.08  # of the distance between two categories


class Point(NamedTuple):
    """A value at a position, with its standard error where there is one."""

    position: float
    value: float
    error: float | None


class Curve(NamedTuple):
    """Points joined by a line, in the look of a schedule optimizer; open marks on a dashed line where hollow."""

    label: str
    points: Sequence[Point]
    style: Style
    hollow: bool = False


class Level(NamedTuple):
    """A value that the setting does not change: a horizontal line, its standard error a band."""

    label: str
    value: float
    error: float | None
    style: Style


class Drawing(NamedTuple):
    """One panel."""

    title: str
    y_label: str
    curves: Sequence[Curve]
    levels: Sequence[Level] = ()


class Axis(NamedTuple):
    """The axis of what is varied: its label, its ticks, and how they are spaced."""

    label: str
    ticks: dict[float, str]
    spacing: str = "linear"  # categories | linear | log | symlog


def ablation_plot(drawings: Sequence[Drawing], axis: Axis, columns: int) -> Figure:
    """Panels in rows of so many columns, with one legend under all of them."""
    columns = min(columns, len(drawings))
    lines, logarithmic = math.ceil(len(drawings) / columns), _logarithmic(drawings)
    figure = Figure(figsize=(max(3.5 * columns, 5.0) + 0.6, 3.2 * lines + 0.7), dpi=DPI, layout="constrained")
    for place, drawing in enumerate(drawings):
        ax = figure.add_subplot(lines, columns, place + 1)
        _draw(ax, drawing, joined=axis.spacing != "categories")
        labelled = place % columns == 0 or drawing.y_label != drawings[place - 1].y_label
        _dress_x(ax, axis, labelled=place >= len(drawings) - columns)
        _dress_y(ax, drawing.y_label, labelled=labelled, logarithmic=drawing.y_label in logarithmic)
        frame(ax, drawing.title)
    handles = {
        str(handle.get_label()): handle for ax in figure.axes for handle in ax.get_legend_handles_labels()[0]
    }
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower left",
        ncols=max(1, int(figure.get_figwidth() / (LEGEND_MARK + LEGEND_LETTER * max(map(len, handles))))),
        fontsize=8.5,
        frameon=False,
    )
    return figure


def _draw(ax: Axes, drawing: Drawing, *, joined: bool) -> None:
    """Levels and curves; of categories no lines between them, and the curves' marks side by side."""
    for level in drawing.levels:
        ax.axhline(level.value, color=level.style.colour, linestyle=(0, (5, 2)), linewidth=1.2, label=level.label)
        if level.error:
            low, high = level.value - level.error, level.value + level.error
            ax.axhspan(low, high, color=level.style.colour, alpha=0.15, linewidth=0)
    for place, curve in enumerate(drawing.curves):
        aside = 0.0 if joined else SIDE_BY_SIDE * (place - (len(drawing.curves) - 1) / 2)
        points = [point for point in curve.points if math.isfinite(point.value)]
        ax.errorbar(
            [point.position + aside for point in points],
            [point.value for point in points],
            yerr=[point.error or 0.0 for point in points],
            color=curve.style.colour,
            marker=curve.style.marker,
            markersize=5,
            markerfacecolor="white" if curve.hollow else curve.style.colour,
            linestyle="" if not joined else (0, (2, 2)) if curve.hollow else "-",
            linewidth=1.4,
            capsize=2.5,
            label=curve.label,
        )


def _dress_x(ax: Axes, axis: Axis, *, labelled: bool) -> None:
    if axis.spacing == "log":
        ax.set_xscale("log")
    elif axis.spacing == "symlog":
        first = min(position for position in axis.ticks if position > 0)
        ax.set_xscale("symlog", linthresh=first, linscale=0.6)
    ax.xaxis.set_major_locator(FixedLocator(list(axis.ticks)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _tick(axis.ticks, x)))
    if axis.spacing in ("categories", "linear"):
        ax.margins(x=0.1)
    elif len(axis.ticks) > 6:
        ax.tick_params(axis="x", labelrotation=45)
    if labelled:
        ax.set_xlabel(axis.label)


def _dress_y(ax: Axes, label: str, *, labelled: bool, logarithmic: bool) -> None:
    if logarithmic:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_minor_locator(NullLocator())
    if labelled:
        ax.set_ylabel(label + (" (log scale)" if logarithmic else ""))
    ax.grid(axis="y", color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)


def _tick(ticks: dict[float, str], x: float) -> str:
    return next((text for position, text in ticks.items() if math.isclose(position, x, abs_tol=1e-12)), "")


def _logarithmic(drawings: Sequence[Drawing]) -> set[str]:
    """The y labels whose panels are all positive, one of them over more than a factor of `LOG_SCALE_FROM`."""
    ranges: dict[str, list[tuple[float, float]]] = {}
    for drawing in drawings:
        values = [point.value for curve in drawing.curves for point in curve.points if math.isfinite(point.value)]
        values += [level.value for level in drawing.levels]
        if values:
            ranges.setdefault(drawing.y_label, []).append((min(values), max(values)))
    return {
        label
        for label, found in ranges.items()
        if min(low for low, _ in found) > 0 and any(high > LOG_SCALE_FROM * low for low, high in found)
    }
