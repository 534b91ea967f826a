"""The tables of a league: places of all, then every quantity with its differences."""

from collections.abc import Mapping, Sequence

from fewstep.report.league.contests import Contest
from fewstep.report.league.ranks import half_width
from fewstep.report.printing import NOTHING, measured, number, signed
from fewstep.report.runs import SearchRun
from fewstep.report.tables import Cell, Table

NOT_RUN = "not run"
COST = ["network calls", "seconds"]


def order(contests: Sequence[Contest]) -> list[str]:
    """Schedule optimizers by their mean place, under Fréchet distances where there are any."""
    judged = [contest for contest in contests if contest.samples] or list(contests)
    names = dict.fromkeys(name for contest in contests for name in contest.values)
    return sorted(names, key=lambda name: sum(contest.middle(name) for contest in judged))


def places_table(contests: Sequence[Contest], searches: Mapping[str, SearchRun], not_run: Sequence[str]) -> Table:
    """Schedule optimizers × (quantity, K): the places that each may have, and what its search cost."""
    columns = {f"{contest.name}, K = {K}": ranks for contest in contests for K, ranks in contest.ranks.items()}
    rows = [
        [
            Cell(name),
            *(Cell(ranks[name].text if name in ranks else NOTHING) for ranks in columns.values()),
            *_cost(searches.get(name)),
        ]
        for name in order(contests)
    ]
    rows += [[Cell(name), *[Cell(NOT_RUN)] * (len(columns) + len(COST))] for name in not_run]
    header = ["schedule optimizer", *columns, *COST]
    by = "Fréchet distances" if any(contest.samples for contest in contests) else "bits/dim"
    caption = (
        f"Places at every number of steps, 1 being the lowest value, ordered by their mean under the {by}; "
        "several places are a tie. Network calls and seconds are those of the search and of the statistics that "
        "it reads, for all numbers of steps together, one call being one image at one time."
    )
    return Table(caption, header, rows)


def contest_table(contest: Contest) -> Table:
    """Schedule optimizers × K: the value, its difference to the baseline with its 95 % interval, the places."""
    names = sorted(contest.values, key=contest.middle)
    rows = [[Cell(name), *(cell for K in contest.steps for cell in _cells(contest, name, K))] for name in names]
    header = ["schedule optimizer"]
    for K in contest.steps:
        header += [f"K = {K}", f"K = {K}: − {contest.baseline}", f"K = {K}: place"]
    caption = (
        f"{contest.measured}. − {contest.baseline}: the difference to it, ± half the width of its 95 % interval, "
        "bold where it may be claimed."
    )
    return Table(caption, header, rows)


def _cells(contest: Contest, name: str, K: int) -> list[Cell]:
    """Value, difference, places."""
    estimate = contest.values[name].get(K)
    if estimate is None:
        return [Cell(NOTHING)] * 3
    error = None if contest.samples else estimate.standard_error
    value = Cell(
        measured(estimate.mean, contest.decimals), "" if error is None else number(error, contest.decimals)
    )
    return [value, _difference(contest, name, K), Cell(contest.ranks[K][name].text)]


def _difference(contest: Contest, name: str, K: int) -> Cell:
    known = name != contest.baseline and K in contest.values[contest.baseline]
    difference = contest.difference(name, contest.baseline, K) if known else None
    if difference is None:
        return Cell("")
    width = half_width(difference)
    error = "" if width is None else number(width, contest.decimals)
    claimed = difference.is_claim and width is not None and abs(difference.mean) > width
    return Cell(signed(difference.mean, contest.decimals), error, bold=claimed)


def _cost(search: SearchRun | None) -> list[Cell]:
    if search is None:
        return [Cell(NOTHING)] * 2
    return [Cell(number(search.network_calls, 0)), Cell(number(search.seconds, 1))]
