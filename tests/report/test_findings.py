"""Sentences follow the numbers: they turn when the numbers turn, and claim nothing that the seeds do not carry."""

import re
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest

from fewstep.report.findings import findings
from fewstep.report.rows import read_rows
from fewstep.results import Result

MakeRows = Callable[..., list[Result]]
ReadBack = Callable[[list[Result]], pd.DataFrame]
CLAIMS = r"\b(better|worse|best|beats?|wins?|outperform\w*|superior|improve\w*)\b"


@pytest.fixture
def topics(read_back: ReadBack) -> Callable[[list[Result]], dict[str, str]]:
    def write(rows: list[Result]) -> dict[str, str]:
        return {topic: " ".join(sentences) for topic, sentences in findings(read_rows(read_back(rows)))}

    return write


def changed(rows: list[Result], by: float, **of: object) -> list[Result]:
    """The rows with `by` added to the value of those that fit; at least one must."""
    fits = [all(getattr(row, name) == value for name, value in of.items()) for row in rows]
    assert any(fits)
    return [replace(row, value=row.value + by) if fit else row for row, fit in zip(rows, fits, strict=True)]


def test_gap_to_the_full_grid(topics: Callable, synthetic_rows: MakeRows) -> None:
    rows = synthetic_rows()
    text = topics(rows)["Likelihood."]
    assert "elbo_dp gives 1.970 ± 0.021 bits/dim at K = 32" in text
    assert "all 1000 steps give 1.901 ± 0.021, so 32 steps lose 0.069" in text
    assert "within 0.1 of it are K = 32." in text
    worse_grid = changed(rows, 0.1, metric="bits_per_dim", schedule_optimizer="full", variance="optimal")
    text = topics(worse_grid)["Likelihood."]
    assert "32 steps gain 0.031" in text
    assert "within 0.1 of it are K = 16." in text
    better_grid = changed(rows, -0.1, metric="bits_per_dim", schedule_optimizer="full", variance="optimal")
    assert "no K measured comes within 0.1 of it" in topics(better_grid)["Likelihood."]


def test_difference_to_the_best_fixed_rule_and_its_significance(
    topics: Callable, synthetic_rows: MakeRows
) -> None:
    rows = synthetic_rows()
    text = topics(rows)["Likelihood."]
    assert "−0.050 at K = 4 (even), −0.025 at K = 8 (even)" in text
    assert "no difference is more than twice the combined standard error" in text
    of = {"metric": "bits_per_dim", "schedule_optimizer": "elbo_dp", "variance": "optimal", "finetuned": False}
    text = topics(changed(rows, -0.02, steps=4, **of))["Likelihood."]
    assert "−0.070 at K = 4 (even)" in text
    assert "elbo_dp is lower by more than twice the combined standard error at K = 4." in text
    text = topics(changed(changed(rows, -0.02, steps=4, **of), 0.1, steps=16, **of))["Likelihood."]
    assert re.search(r"is lower by more than [a-z ]+ at K = 4 and higher by more than [a-z ]+ at K = 16\.", text)


def test_any_variance_under_which_a_fixed_rule_is_lower(topics: Callable, synthetic_rows: MakeRows) -> None:
    rows = synthetic_rows()
    none = "Under optimal, posterior and beta variance no fixed rule is lower than elbo_dp by more than 0.01"
    assert none in topics(rows)["Likelihood."]
    of = {"metric": "bits_per_dim", "schedule_optimizer": "karras", "variance": "beta", "steps": 4}
    text = topics(changed(rows, -0.88, **of))["Likelihood."]
    assert none not in text
    assert "in these cases: karras by 0.055 (K = 4, beta)." in text
    assert none in topics(changed(rows, -0.83, **of))["Likelihood."]


@pytest.mark.parametrize("sample_seeds", [1, 2, 4])
@pytest.mark.parametrize("train_seeds", [(0,), (0, 1)])
def test_too_few_seeds_claim_nothing(
    topics: Callable, synthetic_rows: MakeRows, sample_seeds: int, train_seeds: tuple[int, ...]
) -> None:
    text = topics(synthetic_rows(sample_seeds=sample_seeds, train_seeds=train_seeds))
    refusal = "no row of fid_digits may be called better than another"
    quality = text["Sample quality."]
    assert quality.count(refusal) == 1
    assert f"With {max(sample_seeds, len(train_seeds))} paired seed" in quality
    assert re.findall(CLAIMS, quality.replace(refusal, "")) == []
    assert re.findall(CLAIMS, text["Fine-tuning."]) == []
    assert "no claim either way" in text["Fine-tuning."]


def test_five_paired_seeds_may_claim_and_the_claim_turns(topics: Callable, synthetic_rows: MakeRows) -> None:
    rows = synthetic_rows(sample_seeds=5)
    text = topics(rows)["Sample quality."]
    assert "may be called" not in text
    assert "at K = 8 elbo_dp is worse than even, the best fixed rule (+1.71 ± " in text
    of = {"metric": "fid_digits", "schedule_optimizer": "elbo_dp", "solver": "ddim", "finetuned": False}
    assert "at K = 8 elbo_dp is better than even" in topics(changed(rows, -1.9, steps=8, **of))["Sample quality."]
    noisy = rows
    for seed in range(5):
        noisy = changed(noisy, -1.7 + 0.4 * (-1) ** seed, steps=8, sample_seed=seed, **of)
    assert "at K = 8 elbo_dp and even cannot be told apart" in topics(noisy)["Sample quality."]


def test_five_seeds_that_rows_do_not_share_are_no_pairs(topics: Callable, synthetic_rows: MakeRows) -> None:
    rows = [
        replace(row, sample_seed=row.sample_seed + 10)
        if row.schedule_optimizer == "even" and row.sample_seed is not None
        else row
        for row in synthetic_rows(sample_seeds=5)
    ]
    assert "no row of fid_digits may be called better" in topics(rows)["Sample quality."]


def test_whether_likelihood_and_distance_rank_alike(topics: Callable, synthetic_rows: MakeRows) -> None:
    rows = synthetic_rows()
    text = topics(rows)["Sample quality."]
    assert "do not rank the schedules alike" in text
    assert "they put 5 of 15 at K = 4, 5 of 15 at K = 8 and 5 of 15 at K = 16 in opposite order" in text
    alike = topics([row for row in rows if row.schedule_optimizer != "elbo_dp"])["Sample quality."]
    assert "(ddim) rank the schedules alike" in alike
    assert "0 of 10 at K = 4" in alike


def test_floor_states_its_size_and_bounds_nothing(topics: Callable, synthetic_rows: MakeRows) -> None:
    text = topics(synthetic_rows())["Sample quality."]
    assert "The floor, 360 real images against the train split, is 1.31" in text
    assert "falls with the number of images (1,000 in the rows), so this floor is no bound" in text


def test_health_check_holds_or_fails(topics: Callable, synthetic_rows: MakeRows) -> None:
    rows = synthetic_rows()
    assert "at most 0.93 times" in topics(rows)["Health of the network."]
    assert "and holds" in topics(rows)["Health of the network."]
    sick = topics(changed(rows, 0.15, metric="wiener_ratio_max"))["Health of the network."]
    assert "at most 1.08 times" in sick
    assert "and fails" in sick


def test_fine_tuning_against_its_standard_error(topics: Callable, synthetic_rows: MakeRows) -> None:
    rows = synthetic_rows()
    text = topics(rows)["Fine-tuning."]
    assert "changes by −4.0 % at those timesteps and +2.5 % midway between them" in text
    assert "−0.012 ± 0.030 (optimal variance)" in text
    assert "none beyond twice its standard error" in text
    assert "fid_digits (ddim) goes from 3.03 to 2.72" in text
    tuned = changed(rows, -0.06, metric="bits_per_dim", finetuned=True, variance="beta")
    text = topics(tuned)["Fine-tuning."]
    assert "−0.072 ± 0.030 (beta variance)" in text
    assert "beyond twice the standard error under beta variance" in text
    assert "better over 5 paired seeds" in topics(synthetic_rows(sample_seeds=5))["Fine-tuning."]


def test_topics_without_numbers_are_absent(topics: Callable, synthetic_rows: MakeRows) -> None:
    rows = synthetic_rows()
    assert "Likelihood." not in topics([row for row in rows if row.metric != "bits_per_dim"])
    assert "Sample quality." not in topics([row for row in rows if row.metric != "fid_digits"])
    assert "Fine-tuning." not in topics([row for row in rows if not row.finetuned])
    assert "Health of the network." not in topics([r for r in rows if r.metric != "wiener_ratio_max"])
    assert "One network was trained" in topics(rows)["Not shown."]
    assert "One network" not in topics(synthetic_rows(train_seeds=(0, 1)))["Not shown."]
