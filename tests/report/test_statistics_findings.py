"""What the report says of statistics measured at few timesteps, and that it is silent otherwise."""

import pytest

from fewstep.report.statistics_findings import statistics_findings
from fewstep.results import Result


def rows(**numbers: float) -> list[Result]:
    return [Result(metric=f"statistics_{name}", value=value, train_seed=0) for name, value in numbers.items()]


COUNTS = {"timesteps": 38, "timesteps_all": 1000, "images": 128, "calls": 4864, "calls_all": 128000}


def test_nothing_is_said_where_everything_was_measured() -> None:
    assert statistics_findings([Result(metric="network_calls_statistics", value=128000)]) == []


def test_what_was_saved_and_lost() -> None:
    counted, bounded = statistics_findings(rows(**COUNTS, regret_bound=0.0063))
    assert "at 38 of 1,000 timesteps on 128 images: 4,864 network calls instead of 128,000" in counted
    assert "at most 0.006 bits/dim more than with all timesteps" in bounded


@pytest.mark.parametrize(
    "found, sentence",
    [(0.04, "within the 0.050 that was asked for"), (0.06, "above the 0.050 that was asked for, although")],
)
def test_whether_the_images_were_enough(found: float, sentence: str) -> None:
    _, error = statistics_findings(rows(**COUNTS, standard_error=found, standard_error_wanted=0.05))
    assert f"a standard error of at most {found:.3f}, {sentence}" in error
