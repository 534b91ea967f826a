"""What the report says of a search's cost: only with even stride, several K's and enough paired seeds."""

import pytest

from fewstep.report.cost_findings import break_evens, cost_findings, tuned_break_evens
from fewstep.report.findings import findings
from fewstep.report.rows import fid_panels
from fewstep.results import Result

OF = {"dataset": "digits", "process": "cosine", "train_seed": 0}
STATISTICS, SEARCH, TUNING = 120_000, 8_000, 64_000


def law(calls: float) -> float:
    return 40 / calls**2


def rows(seeds: int = 5, steps: tuple[int, ...] = (4, 8, 16, 32), as_good_as: float = 1.5) -> list[Result]:
    """Even stride on a power law; elbo_dp with K steps as good as even stride with `as_good_as` times as many."""
    found = []
    for seed in range(seeds):
        for K in steps:
            kind = OF | {"metric": "fid_digits", "solver": "ddim", "steps": K, "nfe": K, "sample_seed": seed}
            off = 1 + 0.001 * seed
            found += [
                Result(**kind, schedule_optimizer="even", finetuned=False, value=law(K) * off),
                Result(**kind, schedule_optimizer="karras", finetuned=False, value=0.5 * law(K) * off),
                Result(**kind, schedule_optimizer="elbo_dp", finetuned=False, value=law(as_good_as * K) * off),
            ]
            if K == 8:
                found.append(Result(**kind, schedule_optimizer="elbo_dp", finetuned=True, value=law(2 * K) * off))
    tuned = OF | {"schedule_optimizer": "elbo_dp", "steps": 8, "finetuned": True}
    return [
        *found,
        Result(**OF, metric="schedules_network_calls", schedule_optimizer="elbo_dp", value=STATISTICS + SEARCH),
        Result(**OF, metric="schedules_seconds", schedule_optimizer="elbo_dp", value=34.2),
        Result(**OF, metric="schedules_network_calls", schedule_optimizer="karras", value=0),
        Result(**tuned, metric="tuning_network_calls", value=TUNING),
        Result(**tuned, metric="tuning_seconds", value=50.0),
    ]


def test_only_searched_schedules_are_charged_and_the_whole_search_to_each_K() -> None:
    (panel,) = fid_panels(rows(), "fid_digits")
    found = break_evens(rows(), panel)
    assert {name for name, _ in found} == {"elbo_dp"}
    for K in (4, 8, 16):
        images = found["elbo_dp", K].images
        assert images is not None
        assert images.number == pytest.approx((STATISTICS + SEARCH) / (0.5 * K), rel=0.02)
    assert not found["elbo_dp", 32].paid


def test_a_tuned_model_has_its_tuning_to_pay_for_too() -> None:
    (panel,) = fid_panels(rows(), "fid_digits")
    found = tuned_break_evens(rows(), panel)
    assert list(found) == [("elbo_dp", 8)]
    images = found["elbo_dp", 8].images
    assert images is not None
    assert images.number == pytest.approx((STATISTICS + SEARCH + TUNING) / 8, rel=0.02)


def test_the_report_says_it_in_one_sentence_of_the_search() -> None:
    (sentence,) = cost_findings(rows())
    assert sentence.startswith("The search of elbo_dp, statistics included, took 128,000 network calls and 34.2 s")
    assert "at K = 4 it has paid after 64,0" in sentence
    assert "at K = 32 it is not judged: better than even stride" in sentence
    assert "Cost of the search." in [finding.topic for finding in findings(rows())]


@pytest.mark.parametrize(
    "silent",
    [
        rows(seeds=2),
        rows(steps=(8,)),
        [row for row in rows() if row.schedule_optimizer != "even"],
        [row for row in rows() if not row.metric.startswith("schedules_")],
    ],
    ids=["two seeds, as in the demo", "one K", "no even stride", "no cost"],
)
def test_where_it_has_nothing_to_say_it_is_silent(silent: list[Result]) -> None:
    assert cost_findings(silent) == []
