"""Counts add up, and a sum is as sure as its least sure part."""

import pytest

from fewstep.calls import ABOUT, AT_MOST, EXACTLY, Calls


def test_calls_add_up_and_the_largest_batch_decides_the_memory() -> None:
    total = Calls(3, 5, batch=8) + Calls(20, 0, batch=2)
    assert total == Calls(23, 5, batch=8)
    assert total.total == 28


@pytest.mark.parametrize(
    "one, other, both",
    [(EXACTLY, AT_MOST, AT_MOST), (AT_MOST, ABOUT, ABOUT), (ABOUT, EXACTLY, ABOUT), (EXACTLY, EXACTLY, EXACTLY)],
)
def test_a_sum_is_as_sure_as_its_least_sure_part(one: str, other: str, both: str) -> None:
    assert (Calls(1, mark=one) + Calls(1, mark=other)).mark == both
    assert Calls(1, mark=ABOUT).at_most().mark == ABOUT


def test_what_was_counted_takes_the_place_of_what_was_expected() -> None:
    assert Calls(0, 640, mark=AT_MOST).counted(320) == Calls(0, 320)
    assert Calls(100, mark=ABOUT).counted(97) == Calls(97)
    assert Calls(mark=ABOUT).counted(7) == Calls(7)
