"""What the plots draw is what the results hold, in one style per schedule optimizer."""

import io
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from fewstep.report.estimates import finite
from fewstep.report.plots import apart, fid_plot, likelihood_plot, nodes_plot
from fewstep.report.rows import fid_panels, likelihood_panels, node_log_snrs, optimizers
from fewstep.report.style import STYLES, png, styles
from fewstep.results import Result

MakeRows = Callable[..., list[Result]]


def drawn(figure: Figure, panel: int, colour: str) -> list[tuple[list[float], list[float]]]:
    """(x, y) of every line of one colour in a panel, in data units, label marks and stars left out."""
    ax = figure.axes[panel]
    return [
        (list(map(float, line.get_xdata())), list(map(float, line.get_ydata())))
        for line in ax.lines
        if to_hex(line.get_color()) == colour.lower()
        and line.get_transform() == ax.transData
        and line.get_marker() != "*"
    ]


def test_likelihood_lines_and_full_grid_are_the_results(synthetic_rows: MakeRows) -> None:
    rows = synthetic_rows()
    figure = likelihood_plot(likelihood_panels(rows), styles(optimizers(rows)))
    for i, variance in enumerate(("optimal", "posterior", "beta")):
        ax = figure.axes[i]
        assert ax.get_title(loc="left") == f"{variance} variance"
        assert ax.get_xscale() == "log"
        of = [r for r in rows if r.metric == "bits_per_dim" and r.variance == variance and not r.finetuned]
        for name, style in styles(optimizers(rows)).items():
            values = [row.value for row in of if row.schedule_optimizer == name]
            assert drawn(figure, i, style.colour)[0] == ([4, 8, 16, 32], values)
        (full,) = [row.value for row in of if row.schedule_optimizer == "full"]
        assert any(np.allclose(line.get_ydata(), full) for line in ax.lines)
    assert "bits/dim" in figure.axes[0].get_ylabel()
    assert "steps K" in figure.axes[0].get_xlabel()


def test_likelihood_error_bars_are_the_standard_errors(synthetic_rows: MakeRows) -> None:
    rows = synthetic_rows()
    figure = likelihood_plot(likelihood_panels(rows), styles(optimizers(rows)))
    for container in figure.axes[0].containers:
        (bars,) = container[2]
        heights = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
        assert heights == pytest.approx([2 * 0.0213] * 4)


def test_distance_lines_are_means_and_every_seed_is_there(synthetic_rows: MakeRows) -> None:
    rows = synthetic_rows()
    style = styles(optimizers(rows))
    figure = fid_plot(fid_panels(rows, "fid_digits"), style)
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "ddim solver",
        "ancestral solver, optimal variance",
    ]
    for name, (colour, _) in style.items():
        of = [r for r in rows if r.metric == "fid_digits" and r.schedule_optimizer == name and not r.finetuned]
        ddim = {k: [r.value for r in of if (r.solver, r.steps) == ("ddim", k)] for k in (4, 8, 16)}
        (steps, means), *seeds = drawn(figure, 0, colour)
        assert steps == [4, 8, 16]
        assert means == pytest.approx([sum(ddim[k]) / 2 for k in (4, 8, 16)])
        assert [y for _, y in seeds] == list(ddim.values())
        ancestral = [r.value for r in of if r.solver == "ancestral"]
        (_, mean), (_, values) = drawn(figure, 1, colour)
        assert mean == pytest.approx([sum(ancestral) / 2])
        assert values == ancestral


def test_nodes_are_the_results(synthetic_rows: MakeRows) -> None:
    rows = synthetic_rows()
    figure = nodes_plot(node_log_snrs(rows), styles(optimizers(rows)))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["K = 4", "K = 8", "K = 16", "K = 32"]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [
        *("even", "quadratic", "log_snr", "karras", "tangent"),
        *("elbo_dp (posterior)", "elbo_dp (beta)", "elbo_dp (optimal)"),
    ]
    for ax, k in zip(figure.axes, (4, 8, 16, 32), strict=True):
        found = sorted(float(x) for line in ax.lines if line.get_marker() == "|" for x in line.get_xdata())
        assert found == sorted(row.value for row in rows if row.metric == "node_log_snr" and row.steps == k)
    assert "nats" in figure.axes[-1].get_xlabel()


def test_styles_are_distinct_and_the_same_in_every_report() -> None:
    some, more = styles(["even", "elbo_dp"]), styles([*STYLES, "a", "b", "c", "d", "e", "f"])
    assert some == {name: more[name] for name in some}
    assert len({style.colour for style in more.values()}) == len(more)
    assert len({style.marker for style in more.values()}) == len(more)


def test_png_is_a_picture_of_the_asked_size(synthetic_rows: MakeRows) -> None:
    rows = synthetic_rows(("even",), (4,))
    figure = likelihood_plot(likelihood_panels(rows)[:1], styles(["even", "elbo_dp"]))
    picture = matplotlib.image.imread(io.BytesIO(png(figure)))
    width, height = figure.get_size_inches() * figure.dpi
    assert picture.shape[:2] == (round(height), round(width))
    assert picture[..., :3].min() < 0.3
    assert png(figure) == png(figure)


def test_an_infinite_likelihood_leaves_the_rest_drawn() -> None:
    rows = [
        Result(metric="bits_per_dim", variance="beta", schedule_optimizer="even", steps=k, value=value)
        for k, value in ((4, float("inf")), (8, 2.5), (16, 2.25))
    ]
    panels = [finite(panel) for panel in likelihood_panels(rows)]
    figure = likelihood_plot(panels, styles(["even"]))
    assert drawn(figure, 0, STYLES["even"][0])[0] == ([8, 16], [2.5, 2.25])
    assert png(figure)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_labels_are_apart_inside_and_in_order(heights: list[float]) -> None:
    gap = 0.06
    placed = apart(heights, gap)
    ordered = sorted(placed)
    assert all(b - a > gap * (1 - 1e-9) for a, b in pairwise(ordered))
    assert min(placed) >= -1e-9
    assert max(placed) <= 1 + 1e-9
    assert np.array_equal(np.argsort(heights, kind="stable"), np.argsort(placed, kind="stable"))


@given(st.floats(0, 1))
def test_a_single_label_stays_where_its_line_ends(height: float) -> None:
    assert apart([height], 0.06) == pytest.approx([height])


def test_a_legend_of_many_tuned_models_lies_within_the_figure(synthetic_rows: MakeRows) -> None:
    """Its columns are as many as fit, and the panels keep their height."""
    heights = []
    for count in (1, 12):
        names = [f"discretization_gradient_{n}" for n in range(count)]
        rows = [row for row in synthetic_rows() if not row.finetuned and row.solver == "ddim"]
        drawn_by = rows[0]
        rows += [
            replace(row, schedule_optimizer=name, finetuned=True)
            for name in names
            for row in rows
            if row.metric == "fid_digits" and row.schedule_optimizer == drawn_by.schedule_optimizer
        ]
        figure = fid_plot(fid_panels(rows, "fid_digits"), styles(optimizers(rows)))
        figure.draw_without_rendering()
        (legend,) = figure.legends
        box = legend.get_window_extent()
        assert 0 <= box.x0 <= box.x1 <= figure.bbox.width
        assert 0 <= box.y0 <= box.y1 < min(ax.get_window_extent().y0 for ax in figure.axes)
        heights.append(figure.axes[0].get_window_extent().height)
    assert heights[1] > 0.9 * heights[0]
