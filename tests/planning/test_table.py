"""Numbers as a reader takes them in."""

import pytest

from fewstep.calls import ABOUT, AT_MOST, Calls
from fewstep.planning.table import calls, duration, flops, size


@pytest.mark.parametrize(
    "seconds, text",
    [(0.0123, "0.012 s"), (9.96, "10 s"), (45, "45 s"), (150, "2.5 min"), (3600, "60 min"), (9000, "2.5 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_days_from_two_of_them_on() -> None:
    assert duration(47 * 3600) == "47 h"
    assert duration(3.5 * 86400) == "3.5 d"


def test_decimal_prefixes_of_flops_and_binary_ones_of_bytes() -> None:
    assert [flops(count) for count in (12, 8.18e6, 1.5e15)] == ["12 ", "8.18 M", "1.5 P"]
    assert [size(count) for count in (512, 3 * 2**20, 2**34)] == ["0.5 KiB", "3 MiB", "16 GiB"]


def test_calls_say_how_sure_they_are_and_none_only_where_that_is_sure() -> None:
    assert calls(Calls(1234), 1234) == "1,234"
    assert calls(Calls(5, 7, mark=AT_MOST), 7) == "≤ 7"
    assert calls(Calls(5, mark=AT_MOST), 0) == "–"
    assert calls(Calls(mark=ABOUT), 0) == "≈ 0"
