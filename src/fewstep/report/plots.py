"""The report's plots: bits/dim against K, Fréchet distance against K, where each schedule puts its steps."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import Affine2D, offset_copy

from fewstep.report.estimates import Estimate, Line, Panel, Seeds
from fewstep.report.style import DPI, GRID, INK, Style, frame

LOG_SCALE_FROM = 2.5
CROWDED_FROM = 30.0  # times the lowest value: the labels of a logarithmic axis would touch
LABEL_GAP = 0.06
LABEL_OFFSET = 20
LEGEND_COLUMNS = 3  # at most
LEGEND_ROW = 0.18  # inches


def likelihood_plot(panels: Sequence[Panel], style: dict[str, Style]) -> Figure:
    """Bits/dim against K with standard errors, one panel per variance kind, the full grid as a line."""
    figure = Figure(figsize=(max(3.4 * len(panels), 5.5), 3.9), dpi=DPI, layout="constrained")
    logarithmic = _is_logarithmic(panels)
    many_decoders = len({panel.decoder for panel in panels}) > 1
    for i, panel in enumerate(panels):
        ax = figure.add_subplot(1, len(panels), i + 1)
        _draw_lines(ax, panel, style)
        decoder = f", {panel.decoder} decoder" if many_decoders else ""
        y_label = f"bits/dim, {panel.split or 'held-out'} images"
        _dress(ax, f"{panel.variance or 'unstated'} variance{decoder}", y_label, logarithmic, first=i == 0)
        _label_line_ends(ax, panel, style, "full grid")
    _name_tuned(figure)
    return figure


def fid_plot(panels: Sequence[Panel], style: dict[str, Style]) -> Figure:
    """One Fréchet distance against K, a panel per solver: means joined, a dash per seed, the floor a line."""
    logarithmic = _is_logarithmic(panels)
    widths = [1.5 if len(panel.steps) > 1 else 1.0 for panel in panels]
    figure = Figure(figsize=(max(4.08 * sum(widths), 5.5), 3.9), dpi=DPI, layout="constrained")
    grid = figure.add_gridspec(1, len(panels), width_ratios=widths)
    for i, panel in enumerate(panels):
        ax = figure.add_subplot(grid[0, i])
        variance = f", {panel.variance} variance" if panel.variance else ""
        title = f"{panel.solver or 'unstated'} solver{variance}"
        if len(panel.steps) > 1:
            _draw_lines(ax, panel, style)
            _dress(ax, title, panel.metric, logarithmic, first=i == 0)
            _label_line_ends(ax, panel, style, "floor")
        else:
            _draw_columns(ax, panel, style)
            _dress(ax, title, panel.metric, logarithmic, first=i == 0)
    _name_tuned(figure)
    return figure


def nodes_plot(nodes: dict[int, dict[Line, dict[Seeds, list[float]]]], style: dict[str, Style]) -> Figure:
    """Where schedules put their steps: one panel per K, a row per line, a mark per node t_1 … t_K.

    `nodes[K][line][seeds]` are log-SNRs in nats, log(α²/σ²).
    """
    columns = min(2, len(nodes))
    lines = list(dict.fromkeys(line for rows in nodes.values() for line in rows))
    height = math.ceil(len(nodes) / columns) * (0.24 * len(lines) + 0.75)
    figure = Figure(figsize=(4.5 * columns + 1.2, height), dpi=DPI, layout="constrained")
    first: Axes | None = None
    for i, (k, rows) in enumerate(sorted(nodes.items())):
        ax = figure.add_subplot(math.ceil(len(nodes) / columns), columns, i + 1, sharex=first)
        first = first or ax
        for y, line in enumerate(lines):
            ax.axhline(y, color=GRID, linewidth=1, zorder=0)
            by_seeds = rows.get(line, {})
            for log_snrs in by_seeds.values():
                ax.plot(
                    log_snrs,
                    [y] * len(log_snrs),
                    linestyle="",
                    marker="|",
                    markersize=11,
                    markeredgewidth=1.8,
                    color=style[line.optimizer].colour,
                    alpha=max(0.35, 1 / len(by_seeds)),
                )
        ax.set_yticks(range(len(lines)), [line.label if i % columns == 0 else "" for line in lines])
        ax.set_ylim(len(lines) - 0.5, -0.5)
        if i >= len(nodes) - columns:
            ax.set_xlabel("log-SNR of the node, log(α²/σ²) in nats   (noise ← → data)")
        frame(ax, f"K = {k}")
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
    return figure


def _draw_lines(ax: Axes, panel: Panel, style: dict[str, Style]) -> None:
    """A line per schedule optimizer through its means: likelihoods with error bars, distances with their seeds."""
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(panel.steps))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0f}"))
    ax.set_xlabel("steps K (log scale)")
    is_likelihood = panel.metric == "bits_per_dim"
    for line, by_k in panel.untuned.items():
        steps = sorted(by_k)
        means = [by_k[k].mean for k in steps]
        errors = [by_k[k].standard_error or 0.0 for k in steps] if is_likelihood else None
        colour, marker = style[line.optimizer]
        ax.errorbar(steps, means, yerr=errors, color=colour, marker=marker, markersize=5, linewidth=1.5)
        for k in steps if not is_likelihood else ():
            _mark_seeds(ax, k, by_k[k], colour)
    for line, by_k in panel.tuned.items():
        for k, estimate in by_k.items():
            _mark_tuned(ax, k, estimate, style[line.optimizer], line, k)


def _draw_columns(ax: Axes, panel: Panel, style: dict[str, Style]) -> None:
    """A panel of a single K: schedule optimizers side by side, a mark for the mean, a dash per seed."""
    (k,) = panel.steps
    lines = list(dict.fromkeys([*panel.untuned, *panel.tuned]))
    for x, line in enumerate(lines):
        colour, marker = style[line.optimizer]
        if line in panel.untuned:
            estimate = panel.untuned[line][k]
            ax.plot([x], [estimate.mean], linestyle="", marker=marker, markersize=6, color=colour)
            _mark_seeds(ax, x, estimate, colour)
        if line in panel.tuned:
            _mark_tuned(ax, x, panel.tuned[line][k], style[line.optimizer], line, k)
    ax.set_xticks(range(len(lines)), [line.label for line in lines], rotation=35, ha="right")
    ax.set_xlim(-0.6, len(lines) - 0.4)
    ax.set_xlabel(f"K = {k}")
    if panel.reference:
        _draw_reference(ax, panel.reference)
        at = (1.0, panel.reference.mean)
        ax.annotate("floor", at, (0, 3), ("axes fraction", "data"), "offset points", ha="right", fontsize=8.5)


def _mark_seeds(ax: Axes, x: float, estimate: Estimate, colour: str) -> None:
    values = list(estimate.values.values())
    ax.plot([x] * len(values), values, linestyle="", marker="_", markersize=13, color=colour, alpha=0.7)


def _mark_tuned(ax: Axes, x: float, estimate: Estimate, style: Style, line: Line, k: int) -> None:
    """A star for a model that was tuned once, the number of rounds for one that was alternated."""
    once = line.rounds == 1
    ax.plot(
        [x],
        [estimate.mean],
        label=f"{line.label}, K = {k}" + (", fine-tuned" if once else ""),
        linestyle="",
        marker="*" if once else style.marker,
        markersize=12 if once else 8,
        markerfacecolor="white" if once else style.colour,
        markeredgecolor=style.colour,
        markeredgewidth=1.2 if once else 0.6,
        zorder=5,
    )


def _name_tuned(figure: Figure) -> None:
    """One legend under the panels for the fine-tuned marks, in as many columns as the figure is wide for."""
    handles = [handle for ax in figure.axes for handle in ax.get_legend_handles_labels()[0]]
    named = {str(handle.get_label()): handle for handle in handles}
    if not named:
        return
    for columns in range(LEGEND_COLUMNS, 0, -1):
        legend = figure.legend(
            list(named.values()), list(named), loc="outside lower left", ncols=columns, fontsize=8.5, frameon=False
        )
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()
    rows = math.ceil(len(named) / columns)
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * (rows - 1))


def _draw_reference(ax: Axes, reference: Estimate) -> None:
    ax.axhline(reference.mean, color=INK, linestyle=(0, (4, 2)), linewidth=1, zorder=1)


def _is_logarithmic(panels: Sequence[Panel]) -> bool:
    """Whether all values are positive and those of some panel span more than a factor of `LOG_SCALE_FROM`."""
    values = []
    for panel in panels:
        lines = [*panel.untuned.values(), *panel.tuned.values()]
        of_panel = [estimate.mean for by_k in lines for estimate in by_k.values()]
        values.append(of_panel + ([panel.reference.mean] if panel.reference else []))
    spans = any(max(of_panel) > LOG_SCALE_FROM * min(of_panel) for of_panel in values)
    return spans and min(map(min, values)) > 0


def _dress(ax: Axes, title: str, y_label: str, logarithmic: bool, *, first: bool) -> None:
    """The y axis with its label (in the first panel of a figure), and the frame."""
    if logarithmic:
        ax.set_yscale("log")
        lowest, highest = ax.get_ylim()
        subs = (1, 1.5, 2, 2.5, 3, 4, 5, 7) if highest < CROWDED_FROM * lowest else (1, 2, 5)
        ax.yaxis.set_major_locator(LogLocator(subs=subs))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_minor_locator(NullLocator())
    if first:
        ax.set_ylabel(y_label + (" (log scale)" if logarithmic else ""))
    ax.grid(axis="y", color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    frame(ax, title)


def _label_line_ends(ax: Axes, panel: Panel, style: dict[str, Style], reference_name: str) -> None:
    """Marker and name at the right end of every line, moved apart where the ends are close."""
    ends: list[tuple[float, float, str, Style | None]] = [
        (max(by_k), by_k[max(by_k)].mean, line.label, style[line.optimizer])
        for line, by_k in panel.untuned.items()
    ]
    if panel.reference:
        _draw_reference(ax, panel.reference)
        ends.append((ax.get_xlim()[1], panel.reference.mean, reference_name, None))
    right_edge = Affine2D().translate(1, 0) + ax.transAxes
    beside = offset_copy(right_edge, fig=ax.get_figure(root=True), x=LABEL_OFFSET, units="points")
    to_axes = ax.transData + ax.transAxes.inverted()
    heights = [float(to_axes.transform((x, y))[1]) for x, y, _, _ in ends]
    for (x, y, text, look), height in zip(ends, apart(heights, LABEL_GAP), strict=True):
        ax.annotate(
            "",
            (x, y),
            (0, height),
            textcoords=beside,
            arrowprops={
                "arrowstyle": "-",
                "color": look.colour if look else INK,
                "linewidth": 0.7,
                "alpha": 0.6,
                "shrinkA": 0,
                "shrinkB": 3 if look else 0,
            },
        )
        if look:
            ax.plot([0], [height], transform=beside, clip_on=False, color=look.colour, marker=look.marker, ms=5)
        ax.annotate(text, (0, height), (6, 0), beside, "offset points", va="center", fontsize=8.5, color=INK)


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Heights in [0, 1] moved so that no two are closer than `gap`: order kept, groups near their own mean.

    Groups stay inside [0, 1] as long as they fit.
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(heights)), key=lambda i: heights[i]):
        groups.append([i])
        while len(groups) > 1 and _overlap(groups[-2], groups[-1], heights, gap):
            groups[-2:] = [groups[-2] + groups[-1]]
    placed = list(heights)
    for group in groups:
        for position, i in enumerate(group):
            placed[i] = _bottom(group, heights, gap) + position * gap
    return placed


def _overlap(lower: Sequence[int], upper: Sequence[int], heights: Sequence[float], gap: float) -> bool:
    return _bottom(lower, heights, gap) + gap * len(lower) > _bottom(upper, heights, gap)


def _bottom(group: Sequence[int], heights: Sequence[float], gap: float) -> float:
    extent = gap * (len(group) - 1)
    centred = math.fsum(heights[i] for i in group) / len(group) - extent / 2
    return max(0.0, min(centred, 1.0 - extent))
