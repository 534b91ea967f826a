"""A table of a paper in its own layout: under every published row what runs have measured of it."""

import math
from collections.abc import Mapping, Sequence

from fewstep.report.content import Content, Heading
from fewstep.report.differences import seeds_error
from fewstep.report.estimates import Estimate
from fewstep.report.overviews.base import Measured
from fewstep.report.papers.line import MeasuredLine, Method, measured_lines
from fewstep.report.papers.network import Network
from fewstep.report.papers.published import Block, published
from fewstep.report.papers.set_up import set_up_differences
from fewstep.report.printing import BITS_DECIMALS, measured, number
from fewstep.report.runs import MeasuredRun
from fewstep.report.tables import Cell, Table

NOT_RUN = "not run"
DIFFERS = "what differs from the published set-up"
BITS_PER_DIM = "bits_per_dim"


class PaperTable:
    """A table of a paper; its figures stand in `published.yaml` under its name.

    Attributes:
        name: what `report.table` calls it.
        title: of the page.
        metric: what runs call the measured number.
        methods: row of the paper's table → what it is compared with.
        networks: block of the paper's table → what it is compared with.
    """

    name: str
    title: str
    metric: str
    methods: Mapping[str, Method]
    networks: Mapping[str, Network]

    def __call__(self, available: Measured) -> Content:
        """The page with a table for every network."""
        paper = published(self.name)
        about = (
            f"Published: {paper.source}; not measured here. Under each published row stands what the runs in "
            f"outputs have measured of it, ± standard error ({self._errors}), and in the last column what differs "
            "from the published set-up, or the command that makes the row."
        )
        headings = []
        for name, block in paper.blocks.items():
            network = self.networks[name]
            runs = [run for run in available.runs if network.is_of(run)]
            headings.append(Heading(name, tables=[self._table(name, block, network, runs)]))
        return Content(self.title, about, [], [*headings, Heading("Notes", paper.notes)])

    @property
    def _errors(self) -> str:
        if self.metric == BITS_PER_DIM:
            return "over the images"
        return "over the sampling seeds; of a single one its jackknife over the samples"

    def _table(self, name: str, block: Block, network: Network, runs: Sequence[MeasuredRun]) -> Table:
        rows = [line for row in block.figures for line in self._row(row, block, network, runs)]
        header = ["schedule", "source", *(self._head(K, network) for K in block.steps), DIFFERS]
        return Table(self._caption(name, block), header, rows, headings=2)

    def _caption(self, name: str, block: Block) -> str:
        set_up, judge = block.set_up, "test images" if self.metric == BITS_PER_DIM else "samples"
        searched = "all" if set_up.searched_on is None else f"{set_up.searched_on:,}"
        trained = f"{set_up.training}; " if set_up.training else ""
        return (
            f"{name}, {self.metric}. Published set-up: {trained}schedules searched on {searched} training images; "
            f"{set_up.judged_on:,} {judge}."
        )

    def _head(self, K: int, network: Network) -> str:
        return f"all {K:,}" if network.process.get("T") == K else f"K = {K}"

    def _row(self, row: str, block: Block, network: Network, runs: Sequence[MeasuredRun]) -> list[list[Cell]]:
        """The published line, and one for every set-up that was measured."""
        method, printed = self.methods[row], [block.figure(row, K) for K in block.steps]
        last, T = block.steps[-1], network.process.get("T")
        whole_grid = last if last == T and printed[-1] is not None else None
        lines = [[Cell(row), Cell("published"), *(_published(figure) for figure in printed), Cell("")]]
        found = measured_lines(runs, self.metric, method, network.variances, whole_grid)
        for line in found:
            cells = [
                Cell("") if figure is None else self._measured(line.cells.get(K))
                for K, figure in zip(block.steps, printed, strict=True)
            ]
            differs = "; ".join([line.runs[0].experiment, *set_up_differences(line, block.set_up)])
            lines.append([Cell(row), Cell(_label(line)), *cells, Cell(differs)])
        if not found:
            cells = [Cell("" if figure is None else NOT_RUN) for figure in printed]
            lines.append([Cell(row), Cell("here"), *cells, Cell(f"fewstep {network.command}")])
        return lines

    def _measured(self, estimate: Estimate | None) -> Cell:
        if estimate is None:
            return Cell(NOT_RUN)
        likelihood = self.metric == BITS_PER_DIM
        decimals = BITS_DECIMALS if likelihood else 2
        error = estimate.standard_error if likelihood else seeds_error(estimate)
        shown = "" if error is None or not math.isfinite(estimate.mean) else number(error, decimals)
        return Cell(measured(estimate.mean, decimals), shown)


def _published(figure: float | str | None) -> Cell:
    """As printed: two decimals, one from a hundred on."""
    if figure is None or isinstance(figure, str):
        return Cell(figure or "")
    return Cell(number(figure, 2 if figure < 100 else 1))


def _label(line: MeasuredLine) -> str:
    """`here, learned variance, additive decoder`."""
    kind = line.kind
    variance = f", {kind.variance} variance" if kind.variance else ""
    return f"here{variance}" + (f", {kind.decoder} decoder" if kind.decoder else "")
