"""The rounds of search and fine-tuning in the report: what rose, what is kept, and rows of their own."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fewstep.report.estimates import Line
from fewstep.report.finetuning_findings import finetuning_findings
from fewstep.report.finetuning_table import finetuning_table
from fewstep.report.page import write_report
from fewstep.report.rounds import alternations, rounds_findings, rounds_plot, rounds_table
from fewstep.report.rows import changes, fid_panels, likelihood_panels
from fewstep.report.style import styles
from fewstep.results import Result, write_results

OF = {"dataset": "digits", "process": "cosine", "schedule_optimizer": "elbo_dp_rounds3", "steps": 8}
LABELS = ("round01_search", "round01_finetune", "round02_search", "round02_finetune")


def rows_of_rounds(
    changes: Sequence[float] = (-2.0, -0.5, -1.0), kept: int = 2, train_seed: int = 0, first: float = 130.0
) -> list[Result]:
    """Two rounds, each change ± 0.25."""
    of = OF | {"train_seed": train_seed}
    losses = [first + sum(changes[:n]) for n in range(4)]
    rows = [
        Result(**of, metric=f"loss_after_{label}", value=loss, standard_error=0.75, finetuned=n > 0, n_images=143)
        for n, (label, loss) in enumerate(zip(LABELS, losses, strict=True))
    ]
    rows += [
        Result(**of, metric=f"loss_change_{label}", value=change, standard_error=0.25, finetuned=True)
        for label, change in zip(LABELS[1:], changes, strict=True)
    ]
    counts = {"rounds_made": 2, "kept_round": kept}
    return rows + [Result(**of, metric=name, value=n, finetuned=True) for name, n in counts.items()]


def test_a_loss_that_only_falls() -> None:
    (sentence,) = rounds_findings(rows_of_rounds())
    assert sentence == (
        "elbo_dp at K = 8, 3 rounds of search and fine-tuning: the loss that both lower goes from 130.00 ± 0.75 "
        "for the untuned model to 126.50 ± 0.75 on 143 validation images, and never rises beyond its standard "
        "error; kept is round 2; of 3 rounds 2 were made, as fine-tuning then improved nothing and others would "
        "repeat it."
    )


@pytest.mark.parametrize(
    "changes, told",
    [
        ((-2.0, 0.2, -1.0), "never rises beyond its standard error"),
        ((-2.0, 0.3, -1.0), "rises beyond its standard error by 0.30 ± 0.25 in round 2’s search"),
        (
            (1.5, 0.3, -1.0),
            "error by 1.50 ± 0.25 in round 1’s fine-tuning and by 0.30 ± 0.25 in round 2’s search",
        ),
    ],
)
def test_a_rise_beyond_the_standard_error_is_told(changes: tuple[float, ...], told: str) -> None:
    (sentence,) = rounds_findings(rows_of_rounds(changes))
    assert told in sentence


def test_the_untuned_model_may_be_the_best() -> None:
    assert "kept is the untuned model on its own schedule" in rounds_findings(rows_of_rounds(kept=0))[0]


def test_a_rise_with_one_training_seed_is_not_hidden_by_another() -> None:
    rows = [*rows_of_rounds((-2.0, 0.4, -1.0)), *rows_of_rounds((-2.0, -0.9, -1.0), kept=1, train_seed=1)]
    (sentence,) = rounds_findings(rows)
    assert "by 0.40 ± 0.25 in round 2’s search" in sentence
    assert "kept is round 1 to 2" in sentence


def test_the_table_has_a_row_per_phase_and_the_kept_one_bold() -> None:
    table = rounds_table(rows_of_rounds())
    assert table is not None
    found = [[cell.text for cell in row] for row in table.rows]
    assert found == [
        ["elbo_dp, 3 rounds, K = 8", "1", "search", "130.00", ""],
        ["elbo_dp, 3 rounds, K = 8", "1", "fine-tuning", "128.00", "−2.00"],
        ["elbo_dp, 3 rounds, K = 8", "2", "search", "127.50", "−0.50"],
        ["elbo_dp, 3 rounds, K = 8", "2", "fine-tuning", "126.50", "−1.00"],
    ]
    assert [row[3].bold for row in table.rows] == [False, False, False, True]
    untuned = rounds_table(rows_of_rounds(kept=0))
    assert untuned is not None
    assert [row[3].bold for row in untuned.rows] == [True, False, False, False]


def test_nothing_is_said_where_nothing_was_alternated(synthetic_rows: Callable[..., list[Result]]) -> None:
    rows = synthetic_rows()
    assert alternations(rows) == []
    assert rounds_findings(rows) == []
    assert rounds_table(rows) is None


def test_the_plot_shows_the_loss_after_every_phase() -> None:
    figure = rounds_plot(rows_of_rounds(), styles(["elbo_dp", "elbo_dp_rounds3"]))
    (ax,) = figure.axes
    line, searches, tunings = ax.lines[0], ax.lines[-2], ax.lines[-1]
    assert list(line.get_ydata()) == [130.0, 128.0, 127.5, 126.5]
    assert list(searches.get_ydata()) == [130.0, 127.5]
    assert list(tunings.get_ydata()) == [128.0, 126.5]
    assert list(tunings.get_xdata()) == [1, 2]


# Alternated rows beside the others.


def alternated(rows: Sequence[Result]) -> list[Result]:
    """The tuned rows once more, as those of a model of three rounds, lower by 0.1."""
    return [
        Result(**vars(row) | {"schedule_optimizer": "elbo_dp_rounds3", "value": row.value - 0.1})
        for row in rows
        if row.finetuned and (row.metric == "bits_per_dim" or row.metric.startswith("fid_"))
    ]


@pytest.fixture
def all_rows(synthetic_rows: Callable[..., list[Result]]) -> list[Result]:
    rows = synthetic_rows()
    return [*rows, *alternated(rows), *rows_of_rounds()]


@pytest.mark.parametrize(
    "name, label, rounds, untuned",
    [
        ("elbo_dp", "elbo_dp", 1, "elbo_dp"),
        ("elbo_dp_rounds3", "elbo_dp, 3 rounds", 3, "elbo_dp"),
        ("my_rounds_dp", "my_rounds_dp", 1, "my_rounds_dp"),
    ],
)
def test_a_line_knows_its_rounds(name: str, label: str, rounds: int, untuned: str) -> None:
    line = Line(name, "beta")
    assert (line.label, line.rounds, line.untuned) == (f"{label} (beta)", rounds, Line(untuned, "beta"))


def test_alternated_rows_are_compared_with_the_untuned_model(all_rows: list[Result]) -> None:
    for panel in (*likelihood_panels(all_rows), *fid_panels(all_rows, "fid_digits")):
        found = {(change.line.optimizer, change.steps): change for change in changes(panel)}
        once, often = found["elbo_dp", 8], found["elbo_dp_rounds3", 8]
        assert often.before is once.before is not None
        assert often.mean_difference == pytest.approx(once.mean_difference - 0.1)


def test_alternated_rows_are_rows_of_their_own(all_rows: list[Result], tmp_path: Path) -> None:
    table = finetuning_table(likelihood_panels(all_rows), all_rows)
    assert table is not None
    assert [row[1].text for row in table.rows[:2]] == ["elbo_dp, K = 8", "elbo_dp, 3 rounds, K = 8"]
    write_results(tmp_path / "results.csv", all_rows)
    printed = write_report(tmp_path, "A run", {})
    names = [line.partition("  ")[0] for line in printed.splitlines()]
    assert {"elbo_dp", "elbo_dp (tuned)", "elbo_dp, 3 rounds"} <= set(names)
    page = (tmp_path / "report.html").read_text()
    assert "Search and fine-tuning in turn" in page
    assert (tmp_path / "rounds.png").stat().st_size > 0


def test_sentences_say_how_a_model_was_tuned(all_rows: list[Result]) -> None:
    distances = fid_panels(all_rows, "fid_digits")
    once, often, *_ = finetuning_findings(likelihood_panels(all_rows), distances, [], all_rows)
    assert once.startswith("Fine-tuned on the 8 timesteps of elbo_dp")
    assert often.startswith("Search and fine-tuning alternated in 3 rounds, from elbo_dp at K = 8")


def test_alternated_rows_keep_their_colour_and_are_marked_by_their_rounds() -> None:
    look = styles(["even", "mine_dp", "mine_dp_rounds3", "mine_dp_rounds12", "other_dp"])
    assert look["mine_dp_rounds3"] == (look["mine_dp"].colour, "$3$")
    assert look["mine_dp_rounds12"] == (look["mine_dp"].colour, "$12$")
    assert look["other_dp"].colour != look["mine_dp"].colour
    assert look["other_dp"] == styles(["even", "mine_dp", "other_dp"])["other_dp"]
