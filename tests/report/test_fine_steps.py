"""The report's tables of how far few steps lead from many."""

from dataclasses import replace

from fewstep.report.fine_steps import fine_step_tables
from fewstep.results import Result

ROW = Result(
    metric="distance_pixels",
    solver="ddim",
    schedule_optimizer="even",
    steps=4,
    value=0.25,
    standard_error=0.01,
    finetuned=False,
    n_images=512,
    sample_seed=0,
)
ROWS = [
    ROW,
    replace(ROW, steps=8, value=0.125),
    replace(ROW, schedule_optimizer="elbo_dp", value=0.2),
    replace(ROW, schedule_optimizer="elbo_dp", value=0.1, finetuned=True),
]


def test_every_solver_and_metric_has_a_table_with_the_lowest_of_each_K_bold() -> None:
    others = [
        replace(row, metric="distance_features", solver=solver) for row in ROWS for solver in ("heun", "ddim")
    ]
    tables = fine_step_tables([*ROWS, *others])
    assert len(tables) == 3
    assert [table.caption.partition(" (")[0] for table in tables] == [
        "Distance in pixels",
        *["Distance in features"] * 2,
    ]
    assert "samples of heun" in tables[2].caption
    (pixels, *_) = tables
    assert [[cell.text for cell in row] for row in pixels.rows] == [
        ["even", "0.2500", "0.1250"],
        ["elbo_dp", "0.2000", "–"],
        ["elbo_dp (tuned)", "0.1000", "–"],
    ]
    assert [[cell.bold for cell in row[1:]] for row in pixels.rows] == [
        [False, True],
        [False, False],
        [True, False],
    ]
    assert "512 images a network, sampling seed 0" in pixels.caption


def test_what_was_not_measured_has_no_table() -> None:
    assert fine_step_tables([replace(ROW, metric="fid_digits")]) == []
