"""When a search has paid for itself: closed forms on power laws, bounds at the ends of what was measured."""

import math

import pytest

from fewstep.report.break_even import Calls, Images, break_even, calls_for
from fewstep.report.estimates import Estimate

NOISE = (-0.02, -0.01, 0.0, 0.01, 0.02)


def over_seeds(mean: float, noise: tuple[float, ...] = (0.0,) * 5) -> Estimate:
    """A distance over paired sampling seeds."""
    pairs = {(0, seed): mean + off for seed, off in enumerate(noise)}
    return Estimate(values=pairs, errors=dict.fromkeys(pairs))


def law(calls: float) -> float:
    """Even stride's distance falls as 40 / calls²."""
    return 40 / calls**2


EVEN = {calls: over_seeds(law(calls)) for calls in (4, 8, 16, 32)}
CURVE = {calls: law(calls) for calls in (4, 8, 16, 32)}


@pytest.mark.parametrize("calls", [4, 5.5, 8, 11.3, 16, 31.9])
def test_a_power_law_is_inverted_exactly(calls: float):
    found = calls_for(CURVE, law(calls))
    assert found.number == pytest.approx(calls)
    assert not found.at_least


def test_nothing_is_extrapolated():
    assert calls_for(CURVE, law(33)) == Calls(32, at_least=True)
    assert calls_for(CURVE, law(32)) == Calls(32)
    assert calls_for(CURVE, law(3)) == Calls(4)


def test_a_curve_that_rises_again_counts_as_what_was_reached_before():
    found = calls_for({4: 2.0, 8: 3.0, 16: 1.0}, 1.999)
    assert 8 < found.number < 8.1
    assert calls_for({4: 2.0, 8: 3.0, 16: 1.0}, 2.5) == Calls(4)
    assert calls_for({4: 2.0, 8: 1.0, 16: 3.0}, 0.5) == Calls(16, at_least=True)


@pytest.mark.parametrize("as_good_as", [9, 12, 24])
def test_images_are_calls_spent_over_calls_saved(as_good_as: float):
    found = break_even(over_seeds(law(as_good_as), NOISE[::-1]), EVEN, 8, cost=128_000)
    assert found is not None
    assert found.paid
    assert found.images is not None
    assert found.images.number == pytest.approx(128_000 / (as_good_as - 8))
    better, worse = found.images_range
    assert better is not None
    assert better.number < found.images.number
    assert worse is None or worse.number > found.images.number


def test_the_range_is_that_of_the_paired_difference():
    """Seeds that shift both rows alike leave no uncertainty; what differs between the rows does."""
    shared = {calls: over_seeds(law(calls), NOISE) for calls in (4, 8, 16)}
    sure = break_even(over_seeds(law(12), NOISE), shared, 8, cost=1000)
    assert sure is not None
    assert [images and images.number for images in sure.images_range] == [pytest.approx(250)] * 2
    unsure = break_even(over_seeds(law(12), NOISE), EVEN, 8, cost=1000)
    assert unsure is not None
    half = 2.7764451 * math.sqrt(sum(off**2 for off in NOISE) / 4 / 5)
    expected = [1000 / ((40 / (law(12) + side * half)) ** 0.5 - 8) for side in (-1, 1)]
    assert [images and images.number for images in unsure.images_range] == [pytest.approx(e) for e in expected]
    assert f"has paid after 250 images ({math.ceil(expected[0])} to {math.ceil(expected[1])})" in unsure.text()


def test_better_than_even_ever_gets_is_a_bound():
    found = break_even(over_seeds(law(40)), EVEN, 8, cost=2400)
    assert found is not None
    assert found.images == Images(100, at_most=True)
    assert (
        found.text()
        == "has paid after at most 100 images, as even stride needs more than 32 calls for its distance"
    )


def test_without_a_better_curve_beyond_nothing_is_known():
    found = break_even(over_seeds(law(40)), EVEN, 32, cost=2400)
    assert found is not None
    assert not found.paid
    assert "not measured at more calls" in found.text()


@pytest.mark.parametrize(
    ("mean", "noise", "said"),
    [
        (law(8), NOISE, "no better than even stride beyond its error"),
        (law(7), NOISE, "worse than even stride"),
        (law(12), (0.0,) * 2, "is not judged: 2 paired seeds, a claim needs 5"),
        (law(12), (0.0,), "is not judged: 1 paired seed, a claim needs 5"),
    ],
)
def test_what_has_not_paid_says_why(mean: float, noise: tuple[float, ...], said: str):
    found = break_even(over_seeds(mean, noise), EVEN, 8, cost=128_000)
    assert found is not None
    assert not found.paid
    assert said in found.text()


def test_even_stride_that_is_better_with_fewer_calls_is_not_beaten_by_its_own_bad_number():
    even = {4: over_seeds(1.0), 8: over_seeds(3.0), 16: over_seeds(0.5)}
    found = break_even(over_seeds(2.0), even, 8, cost=10)
    assert found is not None
    assert not found.paid
    assert found.text() == "has not paid: even stride is as good with 4.0 calls"


def test_a_search_without_network_calls_pays_from_the_first_image():
    found = break_even(over_seeds(law(12)), EVEN, 8, cost=0)
    assert found is not None
    assert found.paid
    assert found.text().startswith("has paid from the first image")


def test_without_even_stride_beside_it_there_is_no_comparison():
    assert break_even(over_seeds(law(12)), EVEN, 10, cost=1) is None
    other_seed = Estimate(values={(0, 99): 1.0}, errors={(0, 99): None})
    assert break_even(other_seed, EVEN, 8, cost=1) is None
