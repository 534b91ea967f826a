"""What a search cost, and whether it has paid for itself against even stride."""

from collections.abc import Mapping, Sequence

from fewstep.report.break_even import BreakEven, break_even
from fewstep.report.estimates import Estimate, Line, Panel
from fewstep.report.paired import PAIRED_SEEDS_FOR_A_CLAIM
from fewstep.report.printing import fid_decimals, listing, number
from fewstep.report.rows import FIXED_RULES, by_optimizer, fid_metrics, fid_panels
from fewstep.results import Result

BASELINE = "even"
SCHEDULES, TUNING = "schedules", "tuning"


def cost_findings(rows: Sequence[Result]) -> list[str]:
    """A sentence per searched schedule optimizer and solver; none without even stride or enough paired seeds."""
    sentences = []
    for metric in fid_metrics(rows):
        for panel in fid_panels(rows, metric):
            found: dict[str, dict[int, BreakEven]] = {}
            for (name, K), one in break_evens(rows, panel).items():
                if one.difference.seeds >= PAIRED_SEEDS_FOR_A_CLAIM:
                    found.setdefault(name, {})[K] = one
            sentences += [_sentence(name, panel, by_K, rows) for name, by_K in found.items()]
    return sentences


def break_evens(rows: Sequence[Result], panel: Panel) -> dict[tuple[str, int], BreakEven]:
    """(schedule optimizer, K) → what became of its search's cost; of the untuned searched schedules of a panel.

    Empty without even stride at several K's, or where the rows state no cost.
    """
    lines = by_optimizer(panel.untuned, panel.variance)
    even = by_calls(panel, lines.get(BASELINE, {}))
    found = {}
    for name in lines:
        cost = network_calls(rows, name)
        for K, estimate in lines[name].items() if name not in FIXED_RULES and cost is not None else ():
            one = break_even(estimate, even, panel.nfe.get(K, K), cost or 0.0) if len(even) > 1 else None
            if one is not None:
                found[name, K] = one
    return found


def tuned_break_evens(rows: Sequence[Result], panel: Panel) -> dict[tuple[str, int], BreakEven]:
    """The same of tuned models, whose cost is that of their schedules and of their tuning."""
    even = by_calls(panel, by_optimizer(panel.untuned, panel.variance).get(BASELINE, {}))
    found = {}
    for name, by_K in by_optimizer(panel.tuned, panel.variance).items():
        for K, estimate in by_K.items():
            costs = [network_calls(rows, Line(name).untuned.optimizer), network_calls(rows, name, K)]
            known = [cost for cost in costs if cost is not None]
            if len(known) == len(costs) and len(even) > 1:
                one = break_even(estimate, even, panel.nfe.get(K, K), sum(known))
                if one is not None:
                    found[name, K] = one
    return found


def by_calls(panel: Panel, by_K: Mapping[int, Estimate]) -> dict[int, Estimate]:
    """Network calls per image → distance."""
    return {panel.nfe.get(K, K): estimate for K, estimate in by_K.items()}


def network_calls(rows: Sequence[Result], schedule_optimizer: str, tuned_K: int | None = None) -> float | None:
    """Network calls behind the schedules of a schedule optimizer, or in tuning one; a mean over training seeds."""
    return _mean_cost(rows, schedule_optimizer, "network_calls", tuned_K)


def seconds(rows: Sequence[Result], schedule_optimizer: str, tuned_K: int | None = None) -> float | None:
    """The same in seconds."""
    return _mean_cost(rows, schedule_optimizer, "seconds", tuned_K)


def _mean_cost(rows: Sequence[Result], name: str, unit: str, tuned_K: int | None) -> float | None:
    metric = f"{SCHEDULES if tuned_K is None else TUNING}_{unit}"
    key = (metric, name, tuned_K)
    values = [row.value for row in rows if (row.metric, row.schedule_optimizer, row.steps) == key]
    return sum(values) / len(values) if values else None


def spent(rows: Sequence[Result], name: str, tuned_K: int | None = None) -> str:
    """`128,000 network calls and 34.0 seconds`."""
    calls, time = network_calls(rows, name, tuned_K), seconds(rows, name, tuned_K)
    parts = [f"{number(calls, 0)} network calls"] if calls is not None else []
    parts += [f"{number(time, 1)} seconds"] if time is not None else []
    return listing(parts) if parts else "an unstated effort"


def _sentence(name: str, panel: Panel, by_K: Mapping[int, BreakEven], rows: Sequence[Result]) -> str:
    decimals = fid_decimals([panel])
    verdicts: dict[str, list[int]] = {}
    for K, one in sorted(by_K.items()):
        verdicts.setdefault(one.text(decimals), []).append(K)
    parts = [f"at K = {listing([str(K) for K in Ks])} it {text}" for text, Ks in verdicts.items()]
    solver = (panel.solver or "unstated solver") + (f", {panel.variance} variance" if panel.variance else "")
    return (
        f"The search of {name}, statistics included, took {spent(rows, name)}. In network calls, against even "
        f"stride at equal {panel.metric} ({solver}), {'; '.join(parts)}."
    )
