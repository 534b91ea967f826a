"""Verdicts, causes and tables turn where the numbers turn."""

import re
from collections.abc import Callable

import pytest

from fewstep.report.ddim.networks import group
from fewstep.report.ddim.page import blocks
from fewstep.results import Result

Rows = list[Result]
Section = Callable[[Rows, str], str]
Changed = Callable[..., Rows]
FID = {"metric": "fid_digits"}
MINE = FID | {"schedule_optimizer": "discretization_dp", "finetuned": False}


def line(text: str, *cells: str) -> str:
    """The row of a table that begins with some cells."""
    start = f"| {' | '.join(cells)} |"
    return next(found for found in text.splitlines() if found.startswith(start))


def test_shown_where_every_cell_is_better(rows: Rows, section: Section) -> None:
    text = section(rows, "What the paper says")
    for baseline in ("even", "tangent", "karras", "all three"):
        assert line(text, "discretization_dp", baseline).endswith("| **shown** | 4 | 0 | 0 | 4 |")
    assert "linear, against even: better at K = 4: −1.00 ± 0.00, K = 8: −0.50 ± 0.00." in text


def test_one_worse_cell_is_in_part_and_half_of_them_is_not_shown(
    rows: Rows, section: Section, changed: Changed
) -> None:
    one = changed(rows, 1.0, process="cosine", steps=8, **MINE)
    text = section(one, "What the paper says")
    assert line(text, "discretization_dp", "even").endswith("| **shown in part** | 3 | 1 | 0 | 4 |")
    assert line(text, "discretization_dp", "tangent").endswith("| **shown** | 4 | 0 | 0 | 4 |") is False
    assert "cosine, against even: better at K = 4: −1.00 ± 0.00; worse at K = 8: +0.50 ± 0.00." in text
    half = changed(one, 2.0, process="linear", steps=8, **MINE)
    text = section(half, "What the paper says")
    assert line(text, "discretization_dp", "even").endswith("| **not shown** | 2 | 2 | 0 | 4 |")
    assert line(text, "discretization_dp", "all three").endswith("| **not shown** | 2 | 2 | 0 | 4 |")


def test_few_seeds_claim_nothing(rows: Rows, section: Section) -> None:
    text = section([row for row in rows if row.sample_seed in (None, 0, 1)], "What the paper says")
    assert line(text, "discretization_dp", "even").endswith("| **not measured** | 0 | 0 | 4 | 4 |")
    assert "With at most 2 paired seeds" in text


def test_even_stride_on_cosine_is_the_tangent_law_and_on_linear_it_is_not(rows: Rows, section: Section) -> None:
    text = section(rows, "Why")
    assert (
        "**cosine: even stride is the tangent law with c = 1** (its greatest step in angle arctan σ/α is 1.00"
        in text
    )
    assert re.search(r"linear: even stride is no tangent law \(.* [1-9]\.\d\d times its least\)", text)


def test_nodes_at_low_noise_are_a_cause_only_where_the_winner_has_fewer(
    rows: Rows, section: Section, changed: Changed
) -> None:
    assert "low noise" not in section(rows, "Why")  # where it wins there is nothing to explain
    losing = changed(rows, 5.0, **MINE)
    text = section(losing, "Why")
    assert "**discretization_dp puts too many nodes at low noise**" in text
    assert "more than that row in 4 of 4" in text
    high = [row for row in losing if row.metric != "node_log_snr" or row.schedule_optimizer != "discretization_dp"]
    like_even = [
        Result(**{**row.__dict__, "schedule_optimizer": "discretization_dp"})
        for row in rows
        if row.metric == "node_log_snr" and row.schedule_optimizer == "even"
    ]
    assert "nodes at low noise are not the cause" in section([*high, *like_even], "Why")


def test_an_objective_agrees_or_disagrees_with_each_measure(
    rows: Rows, section: Section, changed: Changed
) -> None:
    text = section(rows, "Why")
    assert "**discretization** agrees with fid_digits, distance_pixels and distance_features" in text
    assert "fid_digits +1.00 (p < 0.05 in 4 of 4)" in text
    turned = changed(changed(rows, 9.0, **MINE), -3.0, schedule_optimizer="elbo_dp", **FID)
    text = section(turned, "Why")
    assert (
        "**discretization** agrees with distance_pixels and distance_features; disagrees with fid_digits" in text
    )
    table = section(turned, "Do objectives rank")
    assert line(table, "discretization").count("p ") == 2


def test_the_search_finds_what_it_looks_for_and_what_that_is_worth(
    rows: Rows, section: Section, changed: Changed
) -> None:
    text = section(changed(rows, 5.0, **MINE), "Why")
    assert "The search finds what it looks for" in text
    assert "in 4 of 4 cells, the lowest Fréchet distance in 0, the lowest distance in pixels in 4" in text
    dearer = changed(rows, 0.5, metric="objective_discretization", schedule_optimizer="discretization_dp")
    assert "The search does not find what it looks for" in section(dearer, "Why")


def test_tables_hold_means_floors_distances_gaps_and_tuning(rows: Rows, section: Section) -> None:
    means = section(rows, "Fréchet distances")
    assert line(means, "even").startswith("| even | 2.05 (2.00, 2.10; sd 0.02) |")
    assert line(means, "discretization_dp").startswith("| discretization_dp | **1.05** (1.00, 1.10; sd 0.02) |")
    assert line(means, "floor: 360 real images") == "| floor: 360 real images | 0.90 | 0.90 |"
    pixels = section(rows, "fine-step output")
    expected = "| discretization_dp | **0.0200 ± 0.0010** | **0.0100 ± 0.0010** |"
    assert line(pixels, "discretization_dp") == expected
    assert "mean over 512 images a network, sampling seed 0" in pixels
    gaps = section(rows, "Optimality gap")
    assert line(gaps, "discretization_gradient") == "| discretization_gradient | 0.2 ± 0.1 % | **3.0 ± 0.1 %** |"
    tuning = section(rows, "Tuned and alternated")
    row = line(tuning, "discretization_dp_rounds3 (tuned)")
    assert row.count("−0.30 ± 0.00** (−0.30, −0.30)") == 2


def test_models_that_nothing_improved_are_named(rows: Rows, section: Section) -> None:
    def tuned(metric: str, optimizer: str, steps: int, value: float, seed: int) -> Result:
        of = {"dataset": "digits", "process": "linear", "train_seed": seed, "finetuned": True}
        return Result(**of, metric=metric, schedule_optimizer=optimizer, steps=steps, value=value)

    once = [tuned("best_iteration", "elbo_dp", K, best, seed) for K, best in ((4, 0), (8, 50)) for seed in (0, 1)]
    often = [tuned("kept_round", "elbo_dp_rounds3", 4, kept, seed) for seed, kept in ((0, 2), (1, 0))]
    text = section([*rows, *once, *often], "Tuned and alternated")
    assert "of 4 models tuned once, 2 are the untuned one (elbo_dp at K = 4)" in text
    assert "of 2 models alternated, 1 are the untuned one (elbo_dp at K = 4)" in text
    assert "untuned one" not in section(rows, "Tuned and alternated")


def test_an_unhealthy_network_is_named(rows: Rows, changed: Changed) -> None:
    page = "\n".join(blocks(group(changed(rows, 0.5, metric="wiener_ratio_max", process="linear", train_seed=1))))
    assert "**Warning.** linear, seed 1 (1.41): somewhere the network is worse than a linear filter." in page
    assert "Warning" not in "\n".join(blocks(group(rows)))


@pytest.mark.parametrize("without", ["fid_digits", "distance_pixels", "node_log_snr", "objective_discretization"])
def test_what_was_not_measured_leaves_a_page(without: str, rows: Rows) -> None:
    page = blocks(group([row for row in rows if row.metric != without]))
    assert page[0] == "# Few steps of DDIM on digits"
    assert all(isinstance(block, str) for block in page)
