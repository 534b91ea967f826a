"""Every objective: its value agrees with its table, its loss has a slope, its statistics come back from files."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fewstep import UserError
from fewstep.artefacts.statistics import load_statistics
from fewstep.noise import Noise
from fewstep.objectives.base import Objective
from fewstep.schedule import Schedule
from fewstep.statistics.features import KIND as FEATURES

T = 24  # of the grids here


def test_every_objective_values_a_path_as_its_table_does(objective: Objective, tiny: Any) -> None:
    if not objective.additive:
        with pytest.raises(UserError, match="no sum over steps"):
            objective.edge_costs({})
        return
    statistics = tiny.statistics(objective.needs)
    constants = []
    for path in ([0, T], [0, 1, T], [0, 5, T], [0, 3, 4, 17, T], list(range(T + 1))):
        schedule = Schedule.on_grid(path, tiny.process)
        table = objective.edge_costs(statistics, around=schedule)
        assert torch.equal(table.times, tiny.process.grid)
        assert torch.isfinite(table.costs[torch.ones_like(table.costs, dtype=torch.bool).triu(1)]).all()
        constants.append(objective.value(statistics, schedule, tiny.denoiser) - table.total(path))
    if objective.linearised:  # a table's slope is the value's, as the objective's own tests say; its total is not
        return
    # What the table leaves out is the same for every path.
    assert constants == pytest.approx([constants[0]] * len(constants), rel=1e-9, abs=1e-9)


def test_every_objective_has_a_loss_with_a_slope_and_weights_of_times(objective: Objective, tiny: Any) -> None:
    if not objective.differentiable:
        with pytest.raises(UserError, match="no loss"):
            objective.loss(tiny.denoiser, tiny.images, tiny.process.grid, tiny.images, {})
        return
    statistics = tiny.statistics(objective.needs)
    schedule = Schedule.on_grid([0, 2, 9, 15, T], tiny.process)
    x0 = tiny.images.double()
    times = schedule.times.clone().requires_grad_()
    loss = objective.loss(tiny.denoiser, x0, times, Noise(0, range(len(x0)), x0.shape[1:])(0), statistics)
    (slope,) = torch.autograd.grad(loss, times)
    assert loss.ndim == 0
    assert torch.isfinite(loss)
    assert torch.isfinite(slope[1:]).all()
    assert (slope[1:-1] != 0).all()
    weights = objective.time_weights(statistics, schedule)
    if weights is None:  # it does not look at the network's error
        return
    assert weights.shape == (4,)
    assert weights.dtype == torch.float64
    assert (weights > 0).all()


def test_every_objective_states_the_network_calls_of_a_value(objective: Objective, tiny: Any) -> None:
    statistics, calls = tiny.statistics(objective.needs), objective.value_calls(3)
    before = tiny.denoiser.evaluations
    objective.value(statistics, Schedule.on_grid([0, 4, 13, T], tiny.process), tiny.denoiser)
    made = tiny.denoiser.evaluations - before
    assert made <= calls.total
    assert (made > 0) == (calls.total > 0)


def test_every_kind_of_statistics_comes_back_from_its_file(
    objective: Objective, tiny: Any, tmp_path: Path
) -> None:
    statistics = tiny.statistics(objective.needs)
    again = {}
    for kind, measured in statistics.items():
        if kind == FEATURES:  # the judge of a run, which no file holds
            again[kind] = measured
            continue
        measured.save(tmp_path / kind)
        again[kind] = load_statistics(kind)(tmp_path / kind)
    schedule = Schedule.on_grid([0, 3, T], tiny.process)
    assert objective.value(again, schedule, tiny.denoiser) == objective.value(statistics, schedule, tiny.denoiser)
