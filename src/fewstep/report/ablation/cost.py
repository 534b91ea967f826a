"""What each setting costs, and whether its search has paid for itself against even stride."""

from collections.abc import Callable, Sequence

from fewstep.report.ablation.settings import Setting, plain
from fewstep.report.break_even import BreakEven
from fewstep.report.content import Heading
from fewstep.report.cost_findings import (
    BASELINE,
    break_evens,
    network_calls,
    seconds,
    tuned_break_evens,
)
from fewstep.report.estimates import Line
from fewstep.report.part import Distance
from fewstep.report.printing import NOTHING, count, listing, number
from fewstep.report.rows import FIXED_RULES, optimizers
from fewstep.report.tables import Cell, Table

CAPTION = (
    "What the schedules cost, statistics and search together for all K, tuning for its own; a network call is one "
    "evaluation on one image, in training a forward and a backward pass. Then, for each K, after how many "
    "generated images the search has paid for itself against even stride at equal {metric} ({solver}): the calls "
    "spent over those saved per image, even stride’s calls for the same distance read off its curve at {measured} "
    "calls, log-log, never beyond them. In brackets: the range by the 95 % interval of the paired difference."
)


def cost_table(settings: Sequence[Setting], head: str, label: Callable[[str], str]) -> list[Table]:
    """A table per distance; of searched schedule optimizers, and of their tuned models where there are any."""
    tables = []
    for place, distance in enumerate(_distances(settings)):
        rows: list[list[Cell]] = []
        steps = sorted({K for setting in settings for _, K in _found(setting, place)[0]})
        for setting in settings:
            untuned, tuned = _found(setting, place)
            measured = setting.part.rows
            searched = [name for name in optimizers(measured) if name not in FIXED_RULES]
            for name in searched:
                if network_calls(measured, name) is not None:
                    spent = _spent(seconds(measured, name), network_calls(measured, name))
                    verdicts = [_verdict(untuned.get((name, K))) for K in steps]
                    rows.append([Cell(label(setting.value)), Cell(name), *spent, *verdicts])
            for (name, K), one in tuned.items():
                spent = _spent(_all(seconds, setting, name, K), one.cost)
                verdicts = [_verdict(one if k == K else None) for k in steps]
                rows.append([Cell(label(setting.value)), Cell(f"{name}, K = {K}, tuned"), *spent, *verdicts])
        if rows:
            panel = distance.panel
            even = sorted(panel.nfe.get(K, K) for K in distance.estimates.get(BASELINE, {}))
            calls = listing([str(number_of) for number_of in even]) if even else "no"
            caption = CAPTION.format(metric=panel.metric, solver=distance.solver, measured=calls)
            header = [head, "schedule optimizer", "seconds", "network calls", *(f"K = {K}" for K in steps)]
            tables.append(Table(caption, header, _merged(rows), headings=2))
    return tables


def _distances(settings: Sequence[Setting]) -> Sequence[Distance]:
    return max((setting.part.distances for setting in settings), key=len, default=[])


def _found(
    setting: Setting, place: int
) -> tuple[dict[tuple[str, int], BreakEven], dict[tuple[str, int], BreakEven]]:
    if place >= len(setting.part.distances):
        return {}, {}
    panel, rows = setting.part.distances[place].panel, setting.part.rows
    return break_evens(rows, panel), tuned_break_evens(rows, panel)


def _all(cost: Callable[..., float | None], setting: Setting, name: str, K: int) -> float | None:
    """Schedules and tuning together."""
    parts = [cost(setting.part.rows, Line(name).untuned.optimizer), cost(setting.part.rows, name, K)]
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _spent(time: float | None, calls: float | None) -> list[Cell]:
    return [
        Cell(NOTHING if time is None else number(time, 1)),
        Cell(NOTHING if calls is None else number(calls, 0)),
    ]


def _verdict(one: BreakEven | None) -> Cell:
    return Cell(NOTHING if one is None else one.short)


def _merged(rows: Sequence[Sequence[Cell]]) -> list[list[Cell]]:
    """Rows alike in everything but seconds and the setting are one, of every setting."""
    alike: dict[tuple[str, ...], list[Sequence[Cell]]] = {}
    for row in rows:
        alike.setdefault((row[1].text, *(cell.text for cell in row[3:])), []).append(row)
    merged = []
    for same in alike.values():
        labels = list(dict.fromkeys(row[0].text for row in same))
        times = [float(row[2].text.replace(",", "")) for row in same if row[2].text != NOTHING]
        time = f"{count([round(t) for t in times])}" if len(same) > 1 and times else same[0][2].text
        merged.append([Cell(", ".join(labels)), same[0][1], Cell(time), *same[0][3:]])
    return merged


def cost_heading(settings: Sequence[Setting], head: str) -> list[Heading]:
    """The section of an ablation's page; none where nothing states its cost."""
    tables = cost_table(settings, head, plain)
    return [Heading("Cost, and when the search has paid for itself", tables=tables)] if tables else []
