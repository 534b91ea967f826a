"""Which runs meet in one league: those of one network, judged alike, on the same noise."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fewstep.provenance import canonical
from fewstep.report.part import ABOVE_FULL, Part
from fewstep.report.rows import FULL_GRID, distinct
from fewstep.report.runs import MeasuredRun, SearchRun
from fewstep.results import Result

LIKELIHOODS = ("bits_per_dim", ABOVE_FULL)


@dataclass(frozen=True)
class League:
    """Schedule optimizers that met.

    Attributes:
        title: the experiment, and what tells this league from others of it.
        part: what was measured, schedule optimizers by the names that they have in the league.
        searches: name → its search.
    """

    title: str
    part: Part
    searches: Mapping[str, SearchRun]


def leagues(runs: Sequence[MeasuredRun]) -> list[League]:
    """A league for every set-up in which two or more schedule optimizers were measured, of untuned networks alone.

    A schedule optimizer that was searched with several settings takes part once with each, under names that tell
    them apart.
    """
    by_set_up: dict[str, list[MeasuredRun]] = {}
    for run in runs:
        if "untuned" not in run.config:
            by_set_up.setdefault(run.set_up, []).append(run)
    by_title: dict[str, dict[str, League]] = {}
    for set_up, of in by_set_up.items():
        league = _league(of)
        if len(league.searches) > 1:
            by_title.setdefault(league.title, {})[set_up] = league
    return [
        replace(league, title=f"{title}{f' ({what})' if what else ''}")
        for title, alike in by_title.items()
        for league, what in zip(alike.values(), told_apart([json.loads(set_up) for set_up in alike]), strict=True)
    ]


def _league(runs: Sequence[MeasuredRun]) -> League:
    """All runs of one set-up; a number that two of them measured alike counts once."""
    optimizers = _Names([(name, _optimizer(search)) for run in runs for name, search in _by_name(run).items()])
    solvers = _Names([(name, _solver(node)) for run in runs for name, node in _solvers(run).items()])
    rows: dict[Result, Result] = {}
    searches: dict[str, SearchRun] = {}
    for run in runs:
        of_run = _by_name(run)
        named = {name: optimizers.of(name, _optimizer(search)) for name, search in of_run.items()}
        sampled = {name: solvers.of(name, _solver(node)) for name, node in _solvers(run).items()}
        searches |= {named[name]: search for name, search in of_run.items()}
        for row in run.rows:
            if row.metric in LIKELIHOODS or row.metric.startswith("fid_"):
                taken = replace(
                    row,
                    schedule_optimizer=named.get(row.schedule_optimizer or "", row.schedule_optimizer),
                    solver=sampled.get(row.solver or "", row.solver),
                )
                rows.setdefault(replace(taken, value=0.0, standard_error=None), taken)
    data, process = (distinct(getattr(row, key) for row in rows.values()) for key in ("dataset", "process"))
    title = f"{runs[0].experiment}: {', '.join(data)}, {', '.join(process)} process"
    return League(title, Part(title, [*rows.values()]), searches)


class _Names:
    """Names that tell apart what is called alike and has several settings.

    Args:
        settings: names with the settings of what they name.
    """

    def __init__(self, settings: Sequence[tuple[str, Any]]) -> None:
        nodes: dict[str, dict[str, Any]] = {}
        for name, node in settings:
            nodes.setdefault(name, {})[canonical(node)] = node
        self._names = {
            (name, key): f"{name} ({what})" if what else name
            for name, of_name in nodes.items()
            for key, what in zip(of_name, told_apart([*of_name.values()]), strict=True)
        }

    def of(self, name: str, node: Any) -> str:
        """The name of what has these settings."""
        return self._names[name, canonical(node)]


def _solvers(run: MeasuredRun) -> Mapping[str, Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] = run.config.get("solver", {})
    return found


def _solver(node: Mapping[str, Any]) -> dict[str, Any]:
    """A solver's settings but the variance kind, which every row states."""
    return {key: value for key, value in node.items() if key != "variance"}


def _by_name(run: MeasuredRun) -> dict[str, SearchRun]:
    """The schedule optimizer that a run is of, with its search; none for the whole grid and the floor."""
    search = run.search("optimal")
    names = distinct(row.schedule_optimizer for row in run.rows if row.metric == "bits_per_dim")
    return {name: search for name in names if name != FULL_GRID and search is not None}


def _optimizer(search: SearchRun) -> dict[str, Any]:
    """A schedule optimizer's settings but the variance kind, which the run sets for all alike."""
    node = search.config["schedule_optimizer"]
    objective = {key: value for key, value in (node.get("objective") or {}).items() if key != "variance"}
    return {**node, "objective": objective}


def told_apart(settings: Sequence[Any]) -> list[str]:
    """Of several nested settings what each has that not all of them have: `power=0.5`; "" for one alone."""
    flat = [dict(_dotted(one)) for one in settings]
    keys = sorted({key for one in flat for key in one})
    differing = [key for key in keys if len({one.get(key) for one in flat}) > 1]
    return [", ".join(f"{key.rpartition('.')[2]}={one.get(key, 'unset')}" for key in differing) for one in flat]


def _dotted(node: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Dotted keys with their values as text."""
    if isinstance(node, list):
        node = {str(i): child for i, child in enumerate(node)}
    if not isinstance(node, Mapping):
        return [(prefix.rstrip("."), node if isinstance(node, str) else canonical(node))]
    return [entry for name, child in node.items() for entry in _dotted(child, f"{prefix}{name}.")]
