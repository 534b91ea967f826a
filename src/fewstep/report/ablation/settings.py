"""The parts of an ablation: the same experiment at several values of one setting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewstep.report.part import Part
from fewstep.report.rows import optimizers, read_rows
from fewstep.results import read_results


@dataclass(frozen=True)
class Setting:
    """One value of what an ablation varies.

    Attributes:
        value: as the part's name says it, such as `0.5` or `cosine`.
        position: on the axis of a plot: the value itself where it is a number, its place in the order otherwise.
        part: what was measured with it.
    """

    value: str
    position: float
    part: Part


def kind_of(part: str) -> str:
    """What a part varies: `power` of `power_0.5`."""
    return part.rpartition("_")[0]


def read_settings(reports: Mapping[str, Path]) -> list[Setting]:
    """The settings in the folders of their reports, numbers ascending, words in the order given.

    Raises:
        UserError: results are missing, damaged, empty, or of several datasets or processes.
    """
    values = {part.rpartition("_")[2]: part for part in reports}
    numbers = [number_of(value) for value in values]
    numeric = all(number is not None for number in numbers)
    positions = [float(place if number is None or not numeric else number) for place, number in enumerate(numbers)]
    found = [
        Setting(value, position, Part(part, read_rows(read_results(Path(reports[part]) / "results.csv"))))
        for (value, part), position in zip(values.items(), positions, strict=True)
    ]
    return sorted(found, key=lambda setting: setting.position)


def number_of(value: str) -> float | None:
    """A value as a number; None for a word."""
    try:
        return float(value)
    except ValueError:
        return None


def plain(value: str) -> str:
    """A value without the zeros that a folder's name pads it with."""
    number = number_of(value)
    return value if number is None else f"{number:g}"


def optimizers_of(settings: Sequence[Setting]) -> list[str]:
    """Every schedule optimizer of some settings, in the order of the first that has it."""
    return list(dict.fromkeys(name for setting in settings for name in optimizers(setting.part.rows)))
