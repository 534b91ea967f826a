"""How the report prints numbers: decimals, signs, ranges, standard errors."""

import math
from collections.abc import Sequence

from fewstep.report.estimates import Estimate, Panel

BITS_DECIMALS = 3
MINUS = "−"
NOTHING = "–"


def number(value: float, decimals: int) -> str:
    """A number with a fixed number of decimals and a true minus sign."""
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def measured(value: float, decimals: int) -> str:
    """A number as `number` has it; what is none, or not finite, by its name."""
    if math.isfinite(value):
        return number(value, decimals)
    return "NaN" if math.isnan(value) else "∞" if value > 0 else f"{MINUS}∞"


def signed(value: float, decimals: int) -> str:
    """A difference, always with its sign; what rounds to nothing has none."""
    text = f"{value:+,.{decimals}f}".replace("-", MINUS)
    return text if text.strip(f"+{MINUS}0.,") else text[1:]


def with_error(value: float, error: float | None, decimals: int) -> str:
    """`value ± standard error`, or the value alone where no standard error was measured."""
    return number(value, decimals) + ("" if error is None else f" ± {number(error, decimals)}")


def span(values: Sequence[float], decimals: int) -> str:
    """The least and the greatest of some numbers, or the one number that they all print as."""
    low, high = number(min(values), decimals), number(max(values), decimals)
    return low if low == high else f"{low} to {high}"


def count(numbers: Sequence[int]) -> str:
    """A number of images, or the range of several."""
    return span(numbers, 0) if numbers else "an unstated number of"


def percent(estimate: Estimate) -> str:
    """A fraction as a percentage with its standard error."""
    error = estimate.standard_error
    return with_error(100 * estimate.mean, None if error is None else 100 * error, 1) + " %"


def listing(words: Sequence[str], last: str = "and") -> str:
    """`a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def fid_decimals(panels: Sequence[Panel]) -> int:
    """Decimals that show a Fréchet distance: two, or four where one is below 0.1."""
    means = [e.mean for panel in panels for by_k in panel.untuned.values() for e in by_k.values()]
    return 2 if min(means, default=1.0) >= 0.1 else 4
