"""What the report says of fine-tuning: over-fitting where two errors part, improvements beyond their errors."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fewstep.report.findings import findings
from fewstep.report.overfitting import TunedRows, overfitting_clause
from fewstep.report.paired import PairedDifference
from fewstep.results import Result

MakeRows = Callable[..., list[Result]]
OF: dict[str, Any] = {"schedule_optimizer": "elbo_dp", "steps": 8, "finetuned": True}


def measured(
    training: float, validation: float, where: str = "on", error: float = 0.001, **of: Any
) -> list[Result]:
    """The changes after the best validation, of errors of 0.1 and 0.2, and what goes with them."""
    kind = OF | of
    rows = []
    for word, best, change in (("training", 0.1, training), ("validation", 0.2, validation)):
        metric = f"{word}_error_{where}_schedule"
        rows.append(Result(**kind, metric=metric, value=best))
        metric = f"{word}_change_after_best_{where}_schedule"
        rows.append(Result(**kind, metric=metric, value=change, standard_error=0.001))
    return rows


def iterations(best: int, last: int, **of: Any) -> list[Result]:
    counts = {"best_iteration": best, "last_iteration": last}
    return [Result(**OF | of, metric=metric, value=value) for metric, value in counts.items()]


def clause(rows: list[Result]) -> str:
    found = overfitting_clause(TunedRows(rows, "elbo_dp", 8))
    assert found is not None
    return found


def test_training_falls_while_validation_rises() -> None:
    assert clause([*iterations(150, 350), *measured(-0.01, 0.02)]) == (
        "it over-fits after iteration 150, which is kept: from there to iteration 350 the error at those "
        "timesteps changes by −10.0 ± 1.0 % on training images and +10.0 ± 0.5 % on validation images"
    )


@pytest.mark.parametrize(
    ("training", "validation"),
    [(-0.01, -0.02), (0.01, 0.02), (0.01, -0.02), (-0.0019, 0.02), (-0.01, 0.0019), (0.0, 0.0)],
)
def test_anything_else_is_no_over_fitting(training: float, validation: float) -> None:
    text = clause([*iterations(150, 350), *measured(training, validation)])
    assert text == "over-fitting is not seen: iteration 150 of 350 is the best, and is kept"


def test_a_change_without_a_standard_error_claims_nothing() -> None:
    rows = [replace(row, standard_error=None) for row in measured(-0.01, 0.02)]
    assert "not seen" in clause([*iterations(150, 350), *rows])


def test_over_fitting_between_the_timesteps_is_told_apart() -> None:
    rows = [*iterations(150, 350), *measured(0.01, 0.02), *measured(-0.01, 0.02, "off")]
    assert "the error midway between them changes by −10.0" in clause(rows)
    assert "at those timesteps" not in clause(rows)


def test_several_training_seeds_add_their_spread() -> None:
    """Two networks of which only one over-fits: the mean change is not beyond its error."""
    one = [*iterations(150, 350, train_seed=0), *measured(-0.01, 0.02, train_seed=0)]
    other = [*iterations(200, 300, train_seed=1), *measured(-0.01, -0.01, train_seed=1)]
    assert "over-fits" in clause(one)
    assert clause(one + other).startswith(
        "over-fitting is not seen: iteration 150 to 200 of 300 to 350 is the best"
    )
    again = [*iterations(200, 300, train_seed=1), *measured(-0.01, 0.02, train_seed=1)]
    assert "over-fits after iteration 150 to 200" in clause(one + again)


def test_untuned_weights_that_are_kept_are_said_so() -> None:
    assert clause([*iterations(0, 40), *measured(0.01, 0.02)]) == (
        "no validation of 40 iterations was better than before, so the untuned weights are kept"
    )


def test_rows_of_other_schedules_say_nothing_of_this_one() -> None:
    rows = [*iterations(150, 350, steps=4), *measured(-0.01, 0.02, steps=4)]
    assert overfitting_clause(TunedRows(rows, "elbo_dp", 8)) is None


def finetuning(rows: list[Result]) -> str:
    return " ".join(next(found.sentences for found in findings(rows) if found.topic == "Fine-tuning."))


def test_the_change_of_the_error_is_paired_where_it_was_measured(synthetic_rows: MakeRows) -> None:
    kind = OF | {"metric": "validation_change_on_schedule", "train_seed": 0, "split": "validation"}
    paired = Result(**kind, value=0.031207 - 0.032511, standard_error=0.00013)
    assert "changes by −4.0 ± 0.4 % at those timesteps and +2.5 % midway" in finetuning(
        [*synthetic_rows(), paired]
    )


def test_the_number_of_trained_parameters_is_told_where_not_all_are(synthetic_rows: MakeRows) -> None:
    def counted(trained: int) -> list[Result]:
        counts = {"trained_parameters": trained, "parameters": 176_849}
        return [Result(**OF, train_seed=0, metric=metric, value=value) for metric, value in counts.items()]

    text = finetuning([*synthetic_rows(), *counted(29_813)])
    assert "timesteps of elbo_dp (29,813 trained parameters; the model has 176,849): " in text
    assert "parameters" not in finetuning([*synthetic_rows(), *counted(176_849)])


def also_even(rows: list[Result], bits: float, distance: float) -> list[Result]:
    """Rows with a second tuned schedule: even at K = 4, better by so much than untuned."""
    added = []
    for row in rows:
        if (row.schedule_optimizer, row.steps) == ("even", 4):
            if row.metric == "bits_per_dim":
                added.append(replace(row, finetuned=True, value=row.value - bits))
            if row.metric == "fid_digits" and row.solver == "ddim":
                wobble = 0.1 * (-1) ** (row.sample_seed or 0)
                added.append(replace(row, finetuned=True, value=row.value - distance + wobble))
    return rows + added


def test_one_tuned_schedule_needs_no_summary(synthetic_rows: MakeRows) -> None:
    assert "comparisons" not in finetuning(synthetic_rows(sample_seeds=5))


def test_a_summary_names_what_improves_beyond_twice_its_error(synthetic_rows: MakeRows) -> None:
    text = finetuning(also_even(synthetic_rows(sample_seeds=5), bits=0.07, distance=0.5))
    for variance in ("posterior", "beta", "optimal"):
        assert f"even at K = 4 ({variance} variance)" in text
    assert (
        "Bits/dim improves by more than twice its standard error through fine-tuning in 3 of 6 comparisons" in text
    )
    assert (
        "The Fréchet distance improves by more than twice its standard error through fine-tuning in 3 of 3" in text
    )
    assert "even at K = 4 (fid_digits, ddim)" in text


def test_a_summary_says_where_none_improves(synthetic_rows: MakeRows) -> None:
    text = finetuning(also_even(synthetic_rows(sample_seeds=5), bits=0.05, distance=0.05))
    assert "Bits/dim improves by more than twice its standard error through fine-tuning in none of 6" in text
    assert "even at K = 4 (fid_digits" not in text


def test_few_paired_seeds_are_no_summary_of_distances(synthetic_rows: MakeRows) -> None:
    assert "The Fréchet distance improves" not in finetuning(also_even(synthetic_rows(sample_seeds=4), 0.07, 0.5))


def test_the_standard_error_of_a_paired_difference() -> None:
    """Student's 97.5 % quantile with 4 degrees of freedom is 2.776."""
    assert PairedDifference(-1.0, 2.776445, 5).standard_error == pytest.approx(1.0, rel=1e-6)
    assert PairedDifference(-1.0, float("inf"), 1).standard_error == float("inf")


def test_bits_per_dim_are_told_with_the_error_of_the_images_differences(synthetic_rows: MakeRows) -> None:
    of = OF | {"metric": "bits_per_dim_change", "decoder": "additive", "train_seed": 0, "split": "test"}
    rows = synthetic_rows()
    paired = [Result(**of, variance=kind, value=-0.0123, standard_error=0.004) for kind in ("posterior", "beta")]
    text = finetuning([*rows, *paired])
    assert "−0.012 ± 0.004 (beta variance)" in text
    assert "−0.012 ± 0.030 (optimal variance)" in text
    assert "beyond twice the standard error under posterior variance and beta variance (taken as" in text
    paired.append(Result(**of, variance="optimal", value=-0.0123, standard_error=0.009))
    text = finetuning([*rows, *paired])
    assert "−0.012 ± 0.009 (optimal variance)" in text
    assert "beyond twice the standard error under posterior" in text
    assert "(paired over images)" in text
    summary = finetuning(also_even([*rows, *paired], bits=0.05, distance=0.0))
    assert "in 2 of 6 comparisons: elbo_dp at K = 8 (posterior variance) and elbo_dp at K = 8 (beta" in summary
