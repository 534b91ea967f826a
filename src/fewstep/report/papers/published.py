"""Figures as papers print them, from `published.yaml`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml


@dataclass(frozen=True)
class PublishedSetUp:
    """What is published of how a network's figures came about.

    Attributes:
        judged_on: test images behind a likelihood, samples behind a Fréchet distance.
        training: of the network, in words; None where nothing is noted.
        weights: names of public files that hold the very weights; none where there is no such file.
        searched_on: training images that schedules are searched on; None for all of them.
    """

    judged_on: int
    training: str | None = None
    weights: Sequence[str] = ()
    searched_on: int | None = None


@dataclass(frozen=True)
class Block:
    """The part of a table that is of one network.

    Attributes:
        set_up: what is published of it.
        steps: the K of the columns.
        figures: row → a figure for each K, None where the paper has none; or in words why it has none at all.
    """

    set_up: PublishedSetUp
    steps: Sequence[int]
    figures: Mapping[str, Sequence[float | None] | str]

    def figure(self, row: str, K: int) -> float | str | None:
        """What the paper prints; words where it prints none in the whole row, None where it leaves a blank."""
        figures = self.figures[row]
        return figures if isinstance(figures, str) else figures[self.steps.index(K)]


@dataclass(frozen=True)
class Published:
    """A table of a paper.

    Attributes:
        source: where it is printed.
        notes: what one has to know of its figures.
        blocks: by the name of the network.
    """

    source: str
    notes: Sequence[str]
    blocks: Mapping[str, Block]


@cache
def published(table: str) -> Published:
    """The figures of a table by its name in `published.yaml`."""
    text = resources.files("fewstep.report.papers").joinpath("published.yaml").read_text(encoding="utf-8")
    entry = yaml.safe_load(text)[table]
    blocks = {
        name: Block(PublishedSetUp(**block["set_up"]), block["steps"], block["figures"])
        for name, block in entry["blocks"].items()
    }
    return Published(entry["source"], entry["notes"], blocks)
