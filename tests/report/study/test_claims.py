"""Every verdict holds in a study that shows the finding, and turns where the numbers turn."""

import math
from collections.abc import Callable

import pytest

from fewstep.report.claim import NEARLY, NOT_MEASURED, NOT_SHOWN, PARTLY, SHOWN, Claim
from fewstep.report.study.disagreement import disagreement
from fewstep.report.study.few_steps import near_full_grid
from fewstep.report.study.images import few_images_suffice
from fewstep.report.study.losses import losses_in_order
from fewstep.report.study.ordering import quadratic_below_even, searched_below_fixed
from fewstep.report.study.page import CLAIMS
from fewstep.report.study.parts import Study
from fewstep.report.study.reweighting import reweighting_helps
from fewstep.report.study.variances import learned_variance
from fewstep.results import Result

Parts = dict[str, list[Result]]
StudyOf = Callable[[Parts], Study]
BITS = {"metric": "bits_per_dim"}
DP = BITS | {"schedule_optimizer": "elbo_dp"}


def told(claim: Claim) -> str:
    return " ".join(claim.blocks)


@pytest.mark.parametrize("claim", CLAIMS)
def test_shown_where_every_number_agrees(claim: Callable[[Study], Claim], parts: Parts, study_of: StudyOf) -> None:
    assert claim(study_of(parts)).verdict == SHOWN


@pytest.mark.parametrize("claim", CLAIMS)
def test_not_measured_without_its_parts(claim: Callable[[Study], Claim], parts: Parts, study_of: StudyOf) -> None:
    found = claim(study_of({"auto": parts["auto"]}))
    assert found.verdict == NOT_MEASURED
    assert told(found).count("was run:") == 1


def test_every_exception_to_an_order_is_listed(parts: Parts, study_of: StudyOf, changed: Callable) -> None:
    at = DP | {"variance": "beta", "steps": 32}
    excess = 0.5 / 32
    small = searched_below_fixed(study_of(changed(parts, excess + 0.004, "linear_vlb", **at)))
    assert small.verdict == NEARLY
    assert "| quadratic | linear_vlb | beta | K = 32: +0.004 ± 0.028 |" in told(small)
    assert "lower than quadratic in 65 of 66 comparisons" in told(small)
    large = searched_below_fixed(study_of(changed(parts, excess + 0.1, "linear_vlb", **at)))
    assert large.verdict == PARTLY
    assert "| even | linear_vlb | beta | K = 32: +0.084 ± 0.028 |" in told(large)
    assert "it is higher by more than that in 1." in told(large)
    everywhere = searched_below_fixed(study_of(changed(parts, 1.0, **DP)))
    assert everywhere.verdict == NOT_SHOWN
    assert everywhere.short == "lower in 0 of 132 comparisons"


def test_quadratic_against_even(parts: Parts, study_of: StudyOf, changed: Callable) -> None:
    worse = changed(parts, 1.0, **BITS, schedule_optimizer="quadratic")
    assert quadratic_below_even(study_of(worse)).verdict == NOT_SHOWN


def test_an_infinite_rule_is_beaten_and_two_infinities_are_not_compared(
    parts: Parts, study_of: StudyOf, changed: Callable
) -> None:
    infinite = changed(parts, math.inf, **BITS, schedule_optimizer="quadratic", variance="beta")
    assert searched_below_fixed(study_of(infinite)).short == "lower in 132 of 132 comparisons"
    both = changed(infinite, math.inf, **DP, variance="beta")
    assert searched_below_fixed(study_of(both)).short == "lower in 96 of 114 comparisons"


def test_near_the_full_grid(parts: Parts, study_of: StudyOf, changed: Callable) -> None:
    far = near_full_grid(study_of(changed(parts, 0.06, "cosine_simple", **DP, variance="posterior")))
    assert far.verdict == PARTLY
    assert far.short == "within 0.1 in 21 of 22 cases"
    assert "the difference is 0.062 to 0.123" in told(far)
    costly = near_full_grid(study_of(changed(parts, 0.5, **BITS, schedule_optimizer="full", variance="beta")))
    assert costly.verdict == SHOWN
    assert costly.short.endswith("below the full grid in 6")
    everywhere = near_full_grid(study_of(changed(parts, 0.5, **BITS, schedule_optimizer="full")))
    assert everywhere.verdict == PARTLY
    assert everywhere.short == "within 0.1 in 22 of 22 cases; below the full grid in 22"
    assert near_full_grid(study_of(changed(parts, 1.0, **DP))).verdict == NOT_SHOWN


def test_few_images(parts: Parts, study_of: StudyOf, changed: Callable) -> None:
    enough = few_images_suffice(study_of(parts))
    assert enough.short == "at most 0.003 bits/dim lost against 1024 images"
    assert "From 64 images on no difference is above 0.01." in told(enough)
    lost = few_images_suffice(study_of(changed(parts, 0.05, "images_0128", **DP)))
    assert lost.verdict == NOT_SHOWN
    assert "From 256 images on" in told(lost)
    some = few_images_suffice(study_of(changed(parts, 0.05, "images_0128", **DP, variance="beta", steps=4)))
    assert some.verdict == PARTLY
    fit = few_images_suffice(study_of(changed(parts, 0.05, "images_0128", **DP, variance="optimal")))
    assert fit.verdict == SHOWN  # not the schedules' doing alone
    assert "Under optimal variance, which the same images fit, it is 0.053." in told(fit)


def test_disagreement(parts: Parts, study_of: StudyOf, changed: Callable) -> None:
    fid = {"metric": "fid_digits", "schedule_optimizer": "elbo_dp"}
    assert disagreement(study_of(parts)).short == "opposite in 24, alike in 0 of 24 comparisons"
    alike = disagreement(study_of(changed(parts, -3.0, **fid)))
    assert alike.verdict == NOT_SHOWN
    assert alike.short == "opposite in 0, alike in 24 of 24 comparisons"
    some = disagreement(study_of(changed(changed(parts, -3.0, "cosine", **fid), -3.0, "linear_vlb", **fid)))
    assert some.verdict == PARTLY
    assert some.short == "opposite in 8, alike in 16 of 24 comparisons"


def test_rank_correlation_is_one_where_both_order_alike(
    parts: Parts, study_of: StudyOf, changed: Callable
) -> None:
    turned = parts
    for optimizer, by in {"elbo_dp": -6.0, "mse_reweighted_dp": -4.0, "quadratic": -2.0}.items():
        turned = changed(turned, by, "cosine_simple", metric="fid_digits", schedule_optimizer=optimizer)
    text = told(disagreement(study_of(turned)))
    assert "| cosine_simple | +1.00 | +1.00 |" in text
    assert "| linear_simple | −0.67 | −0.67 |" in text


def test_reweighting(parts: Parts, study_of: StudyOf, changed: Callable) -> None:
    fid = {"metric": "fid_digits", "schedule_optimizer": "mse_reweighted_dp"}
    helps = reweighting_helps(study_of(parts))
    assert helps.short == "better in 12, worse in 0 of 12 comparisons"
    assert "chance puts 12 % of comparisons over 5 seeds" in told(helps)
    assert "it costs, over networks and variances, 0.050 at K = 4, 0.025 at K = 8" in told(helps)
    harms = reweighting_helps(study_of(changed(parts, 3.0, **fid)))
    assert harms.verdict == NOT_SHOWN
    assert harms.short == "better in 0, worse in 12 of 12 comparisons"
    mixed = reweighting_helps(study_of(changed(parts, 3.0, "linear_vlb", **fid)))
    assert mixed.verdict == PARTLY


@pytest.mark.parametrize("claim", [disagreement, reweighting_helps])
def test_few_seeds_claim_nothing(claim: Callable[[Study], Claim], parts: Parts, study_of: StudyOf) -> None:
    four = {name: [row for row in rows if row.sample_seed != 4] for name, rows in parts.items()}
    found = claim(study_of(four))
    assert found.verdict == NOT_MEASURED
    assert "With at most 4 paired seeds, where a claim needs 5" in told(found)


def test_learned_variance(parts: Parts, study_of: StudyOf, changed: Callable) -> None:
    shown = learned_variance(study_of(parts))
    assert "in 16 of 16 comparisons (network and K, the full grid included), in 16 by more" in told(shown)
    assert "it has fewer in 16 of 16" in told(shown)
    assert "| cosine_hybrid | better fixed | **−0.100 ± 0.028** (posterior)" in told(shown)
    worse = learned_variance(study_of(changed(parts, 0.5, **BITS, variance="learned")))
    assert worse.verdict == NOT_SHOWN
    assert worse.short == "fewer in 0 of 16 comparisons"


def test_losses(parts: Parts, study_of: StudyOf, changed: Callable) -> None:
    shown = losses_in_order(study_of(parts))
    assert "L_hybrid minus L_simple, cosine, K = 32 −0.200 ± 0.028" in told(shown)
    turned = losses_in_order(study_of(changed(parts, 0.5, "linear_vlb", **BITS)))
    assert turned.verdict == PARTLY
    assert turned.short == "in the published order in 6 of 8 comparisons"
    worst = changed(changed(parts, 0.5, "linear_vlb", **BITS), 0.5, "cosine_vlb", **BITS)
    assert losses_in_order(study_of(worst)).verdict == NOT_SHOWN
