"""Stage finetune, after its rounds: the loss that search and training lower in turn, and the round that is kept.

The alternation of Huang 2024 (arXiv 2412.10786), a reconstruction: docs/discretization.md. Phase 1 searches the
schedule of the weights at hand, phase 2 trains these weights on that schedule; both lower the objective's value.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from fewstep.artefacts.statistics import load_statistics
from fewstep.judging.rounds import Phase, best_round, changes, phase_rows
from fewstep.modules.loggers import Logging
from fewstep.objectives.base import Objective
from fewstep.ranks import of_first
from fewstep.results import write_results
from fewstep.run import Run
from fewstep.schedule import Schedule

log = logging.getLogger(__name__)


class PhaseFiles(NamedTuple):
    """What a phase of a round left.

    Attributes:
        round: its number, from 1.
        phase: `search` or `finetune`.
        weights: the folder of the model.
        schedule: the schedule file.
        statistics: kind → file, of the model on validation images, at the schedule's timesteps at least.
    """

    round: int
    phase: str
    weights: Path
    schedule: Path
    statistics: Mapping[str, Path]


def judge_rounds(
    folder: Path,
    config: Mapping[str, Any],
    objective: Objective,
    made: Sequence[PhaseFiles],
    rounds: int,
    curves: Logging,
    seed: int,
    labels: Mapping[str, Any],
) -> None:
    """Write the objective's value on validation after every phase; which round is best is the run's fact `kept`.

    Args:
        folder: the run's folder; receives a `results.csv`.
        config: what decides its numbers.
        objective: whose value both phases lower.
        made: what every phase left, in their order.
        rounds: how many were asked for.
        curves: where the curve of the loss over phases goes.
        seed: recorded.
        labels: what the rows of results are of.
    """
    inputs = {f"schedule, round {one.round}": one.schedule for one in made}
    for one in made:
        for kind, path in one.statistics.items():
            inputs[f"{kind} on validation, round {one.round}, {one.phase}"] = path
    with Run(folder, config, inputs) as run:
        if run.complete:
            return
        phases = [Phase(one.round, one.phase, _values(objective, one)) for one in made]
        kept = best_round(phases)
        _tell(labels, phases, kept, rounds)
        of_first(lambda: _draw(folder, phases, curves))
        write_results(folder / "results.csv", phase_rows(labels, phases))
        run.finish(network_calls=0, device="cpu", seed=seed, facts={"kept": kept, "rounds": phases[-1].round})


def _values(objective: Objective, one: PhaseFiles) -> Tensor:
    statistics = {kind: load_statistics(kind)(path) for kind, path in one.statistics.items()}
    return objective.image_values(statistics, Schedule.load(one.schedule))


def _tell(labels: Mapping[str, Any], phases: Sequence[Phase], kept: int, rounds: int) -> None:
    """Log what a user should know: a loss that rose, rounds that were not needed, the round that is kept."""
    name = f"{labels['schedule_optimizer']} at K = {labels['steps']}"
    for change in changes(phases):
        if change.rose:
            log.warning(
                "%s: on validation the loss rose by %.4g ± %.4g in round %d, %s",
                *(name, change.value, change.standard_error, change.phase.round, change.phase.name),
            )
    if phases[-1].round < rounds:
        log.info("%s: round %d improved nothing, and others would repeat it", name, phases[-1].round)
    log.info("%s: kept is round %d of %d", name, kept, phases[-1].round)


def _draw(folder: Path, phases: Sequence[Phase], curves: Logging) -> None:
    logger = curves.start(folder, "finetune")
    try:
        if not isinstance(logger, bool):
            for number, phase in enumerate(phases):
                logger.log_metrics({"validation/objective": phase.loss}, number)
            logger.save()
    finally:
        curves.finish()
