"""After how many generated images a searched schedule has paid for its search against even stride."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from fewstep.report.estimates import Estimate
from fewstep.report.paired import PAIRED_SEEDS_FOR_A_CLAIM, PairedDifference, paired_difference
from fewstep.report.printing import number, signed


class Calls(NamedTuple):
    """Network calls per image; `at_least` where more were needed than any that were measured."""

    number: float
    at_least: bool = False


def calls_for(curve: Mapping[int, float], distance: float) -> Calls:
    """The fewest network calls per image with which a sampler reaches a distance.

    Between measured numbers of calls the logarithm of the distance is linear in that of the calls; a distance that
    rises with the calls counts as what was reached before, so that the curve never rises. Nothing is extrapolated:
    a distance below all measured ones needs at least the most calls measured, one above all of them gets the
    fewest.

    Args:
        curve: calls per image → distance, positive; at least one.
        distance: to be reached.
    """
    reached = math.inf
    falling: list[tuple[int, float]] = []
    for calls in sorted(curve):
        reached = min(reached, curve[calls])
        falling.append((calls, reached))
    if distance < reached:
        return Calls(falling[-1][0], at_least=True)
    if distance >= falling[0][1]:
        return Calls(falling[0][0])
    for (fewer, above), (more, below) in pairwise(falling):
        if below <= distance:
            share = math.log(above / distance) / math.log(above / below)
            return Calls(fewer * (more / fewer) ** share)
    raise AssertionError("a distance between two measured ones lies between two neighbours")


class Images(NamedTuple):
    """A number of generated images; `at_most` where it is a bound."""

    number: float
    at_most: bool = False


class BreakEven(NamedTuple):
    """A searched schedule of one K against even stride.

    Attributes:
        cost: network calls of the search and of the statistics behind it.
        calls: per image, of the searched schedule.
        most_measured: the most calls per image that even stride was measured with.
        difference: the searched schedule's distance minus even stride's at the same K, paired by seeds.
        even: the calls that even stride needs for the searched schedule's distance.
        even_worse: the same at the worse end of the difference's 95 % interval.
        even_better: the same at its better end.
    """

    cost: float
    calls: int
    most_measured: int
    difference: PairedDifference
    even: Calls
    even_worse: Calls
    even_better: Calls

    @property
    def paid(self) -> bool:
        """Whether it ever pays: better than even stride beyond the error, and than even stride at fewer calls."""
        return self.difference.is_claim and self.difference.mean < 0 and self.images is not None

    @property
    def images(self) -> Images | None:
        """Images after which the calls saved are those spent; None where none are saved."""
        return self._images(self.even)

    @property
    def images_range(self) -> tuple[Images | None, Images | None]:
        """The same at the better and at the worse end of the difference's interval."""
        return self._images(self.even_better), self._images(self.even_worse)

    def _images(self, even: Calls) -> Images | None:
        saved = even.number - self.calls
        return Images(self.cost / saved, at_most=even.at_least) if saved > 0 else None

    def text(self, decimals: int = 2) -> str:
        """What is to be said of it, without a full stop: whether it has paid, when, and how sure that is."""
        if self.difference.seeds < PAIRED_SEEDS_FOR_A_CLAIM:
            return f"is not judged: {_seeds(self.difference.seeds)}, a claim needs {PAIRED_SEEDS_FOR_A_CLAIM}"
        differs = f"{signed(self.difference.mean, decimals)} ± {number(self.difference.half_width, decimals)}"
        if not self.difference.is_claim:
            return f"has not paid: no better than even stride beyond its error ({differs})"
        if self.difference.mean > 0:
            return f"has not paid: worse than even stride ({differs})"
        if self.images is None and self.calls >= self.most_measured:
            return f"is not judged: better than even stride ({differs}), which is not measured at more calls"
        if self.images is None:
            return f"has not paid: even stride is as good with {number(self.even.number, 1)} calls"
        needs = f"even stride needs {_calls(self.even)} calls for its distance"
        if not self.cost:
            return f"has paid from the first image, as its search called no network; {needs}"
        return f"has paid after {_printed(self.images)}{self._bounds()}, as {needs}"

    @property
    def short(self) -> str:
        """The same for a cell of a table, without figures but the images."""
        if self.difference.seeds < PAIRED_SEEDS_FOR_A_CLAIM:
            return f"not judged, {_seeds(self.difference.seeds)}"
        if not self.difference.is_claim:
            return "no: not beyond the error"
        if self.difference.mean > 0:
            return "no: worse than even stride"
        if self.images is None and self.calls >= self.most_measured:
            return "not judged: even stride has no more calls"
        if self.images is None:
            return "no: even stride is as good with fewer calls"
        return f"{_printed(self.images)}{self._bounds()}" if self.cost else "from the first image"

    def _bounds(self) -> str:
        """The range that follows from the difference's 95 % interval; nothing where it says no more."""
        assert self.images is not None
        better, worse = self.images_range
        if worse is None:
            return " (not at the worse end of its 95 % interval)"
        if worse.at_most:
            return ""
        if better is None or self.images.at_most:
            return f" (up to {_rounded(worse)})"
        return f" ({'at most ' * better.at_most}{_rounded(better)} to {_rounded(worse)})"


def break_even(searched: Estimate, even: Mapping[int, Estimate], calls: int, cost: float) -> BreakEven | None:
    """After how many images a search has paid for itself at equal distance.

    The searched schedule calls the network `calls` times an image; even stride needs more for the same distance,
    read off its own measured curve; cost over calls saved is the number of images. The uncertainty is that of the
    difference between the two at the same number of calls, paired by seeds; even stride's own curve is taken as it
    is.

    Args:
        searched: the distance of the searched schedule.
        even: calls per image → the distance of even stride.
        calls: per image, of the searched schedule.
        cost: network calls of statistics and search.

    Returns:
        None where even stride was not measured with `calls` on some seed of the searched schedule.
    """
    beside = even.get(calls)
    if beside is None or not beside.values.keys() & searched.values.keys():
        return None
    curve = {k: max(estimate.mean, math.ulp(0)) for k, estimate in even.items()}
    difference = paired_difference(searched, beside)
    return BreakEven(
        cost,
        calls,
        max(curve),
        difference,
        *(calls_for(curve, curve[calls] + difference.mean + side * _width(difference)) for side in (0, 1, -1)),
    )


def _width(difference: PairedDifference) -> float:
    """Half the interval; of a single seed's, which has no end, nothing."""
    return difference.half_width if math.isfinite(difference.half_width) else 0.0


def _seeds(seeds: int) -> str:
    return f"{seeds} paired seed{'' if seeds == 1 else 's'}"


def _calls(calls: Calls) -> str:
    return f"{'more than ' * calls.at_least}{number(calls.number, 0 if calls.at_least else 1)}"


def _printed(images: Images) -> str:
    return f"{'at most ' * images.at_most}{_rounded(images)} image{'' if _whole(images) == 1 else 's'}"


def _rounded(images: Images) -> str:
    return number(_whole(images), 0)


def _whole(images: Images) -> int:
    """Rounded up: a part of an image has not paid yet."""
    return math.ceil(images.number)
