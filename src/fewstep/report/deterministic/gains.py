"""Which share of what any schedule can win a row wins; the yardstick is a search of the judge's own distance."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fewstep.report.ddim.networks import Against, Networks
from fewstep.report.ddim.quality import several
from fewstep.report.markdown import markdown_table
from fewstep.report.paired import paired_difference
from fewstep.report.printing import NOTHING, fid_decimals, number, signed
from fewstep.report.rows import FIXED_RULES
from fewstep.report.tables import Cell, Table

YARDSTICK = "fid_coordinate"
EVEN = "even"
AIM = 0.8


@dataclass(frozen=True)
class Share:
    """What a row wins of the yardstick's gain over even stride, at one process and K.

    Attributes:
        name: of the row.
        steps: K.
        value: (even − row)/(even − yardstick), of means over all seeds; 1 is all of it, negative a loss.
        standard_error: its jackknife standard error over the sampling seeds, with these networks; infinite of one.
        by_seed: the share with each network.
    """

    name: str
    steps: int
    value: float
    standard_error: float
    by_seed: dict[int, float]

    @property
    def text(self) -> str:
        """`84 ± 6 %`."""
        error = "" if math.isinf(self.standard_error) else f" ± {number(100 * self.standard_error, 0)}"
        return f"{number(100 * self.value, 0)}{error} %"


def shares(networks: Networks, K: int) -> Iterator[Share]:
    """The share of every row but the yardstick and even stride; none where the yardstick's gain is no claim."""
    gain = networks.against(YARDSTICK, EVEN, K)
    if gain is None or gain.says != "better":
        return
    for name in networks.distances:
        row = networks.against(name, EVEN, K)
        if name not in (YARDSTICK, EVEN) and row is not None:
            yield Share(
                name,
                K,
                row.difference.mean / gain.difference.mean,
                _jackknife(networks, name, K),
                {
                    seed: one.mean / gain.by_seed[seed].mean
                    for seed, one in row.by_seed.items()
                    if seed in gain.by_seed
                },
            )


def _jackknife(networks: Networks, name: str, K: int) -> float:
    """The standard error of a share, each sampling seed left out in turn (Efron and Tibshirani 1993, eq. 11.5)."""
    of = {one: networks.distances[one][K] for one in (name, EVEN, YARDSTICK)}
    drawn = sorted({seed for _, seed in of[name].values if seed is not None})
    if len(drawn) < 2:
        return math.inf
    left_out = []
    for seed in drawn:
        row, even, yardstick = (one.without(seed) for one in of.values())
        left_out.append(paired_difference(row, even).mean / paired_difference(yardstick, even).mean)
    mean = math.fsum(left_out) / len(left_out)
    squares = math.fsum((value - mean) ** 2 for value in left_out)
    return math.sqrt((len(left_out) - 1) / len(left_out) * squares)


def share_table(networks: Networks) -> list[str]:
    """Rows × K: the share of the yardstick's gain; its gain in the first row. Nothing without the yardstick."""
    if networks.panel is None or YARDSTICK not in networks.distances:
        return []
    decimals = fid_decimals([networks.panel])
    found = {K: {share.name: share for share in shares(networks, K)} for K in networks.steps}
    gains = [networks.against(YARDSTICK, EVEN, K) for K in networks.steps]
    rows = [[Cell(f"{YARDSTICK}, minus even"), *(_gain(one, decimals) for one in gains)]]
    for name in networks.distances:
        if name not in (YARDSTICK, EVEN):
            rows.append([Cell(name), *(_share(found[K].get(name)) for K in networks.steps)])
    caption = (
        f"**Share of the yardstick’s gain** over even stride, with {several(len(networks.seeds), 'network')}: ± "
        "its jackknife standard error over sampling seeds; in brackets with each network. Bold: at least "
        f"{number(100 * AIM, 0)} %. {YARDSTICK} lowers the judge’s own distance on other seeds, node by node: a "
        "local search, so that a row can win more than it. No share where its gain is not beyond its interval "
        "with every network: there is nothing to win that these seeds could show."
    )
    return [markdown_table(Table(caption, ["schedule optimizer", *(f"K = {K}" for K in networks.steps)], rows))]


def _gain(one: Against | None, decimals: int) -> Cell:
    if one is None:
        return Cell(NOTHING)
    return Cell(f"{signed(one.difference.mean, decimals)} ± {number(one.difference.half_width, decimals)}")


def _share(share: Share | None) -> Cell:
    if share is None:
        return Cell(NOTHING)
    detail = ", ".join(f"{number(100 * value, 0)} %" for value in share.by_seed.values())
    return Cell(share.text, detail=detail, bold=share.value >= AIM)


def searched(everything: Sequence[Networks]) -> list[str]:
    """The rows that are neither fixed rules nor the yardstick."""
    names = dict.fromkeys(name for networks in everything for name in networks.distances)
    return [name for name in names if name not in FIXED_RULES and name != YARDSTICK]
