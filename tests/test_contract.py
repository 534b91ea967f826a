"""What every file of conf/ promises: it composes, builds, is called what it is, and does its work at tiny size.

Everything here is found by listing conf/ and the package, so that a new method is covered without being told.
"""

import importlib
import inspect
import itertools
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import hydra
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

import fewstep
import fewstep.objectives
from fewstep.__main__ import CONF, build
from fewstep.artefacts.statistics import estimator_class, load_statistics
from fewstep.config import Config
from fewstep.data.digits import Digits
from fewstep.denoiser import Denoiser
from fewstep.noise import Noise
from fewstep.objectives.base import Objective, Statistics
from fewstep.pipeline import Pipeline
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.schema import check
from fewstep.search.base import Search
from fewstep.solvers.base import Solver, initial_state
from fewstep.variance import VARIANCES

T, IMAGES = 24, 6
TINY = [
    f"process.T={T}",
    f"evaluation.fine_steps={T}",
    "model.backbone.model_channels=8",
    "model.backbone.num_groups=2",
    "steps=[2,4,8]",
]
LISTS = ("schedule_optimizer", "solver")  # groups that several options are taken of


def files() -> list[tuple[str, str]]:
    """(group, name) of every YAML of conf/ but its root."""
    found = [path.relative_to(CONF).with_suffix("") for path in sorted(CONF.rglob("*.yaml"))]
    return [(path.parent.as_posix(), path.name) for path in found if path.name != "config"]


def names(group: str) -> list[str]:
    return [name for where, name in files() if where == group]


def settings(*overrides: str) -> dict[str, Any]:
    """The configuration as a job of the program gets it."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = OmegaConf.to_container(hydra.compose("config", list(overrides)), resolve=True)
    assert isinstance(composed, dict)
    return {str(key): value for key, value in composed.items()}


def as_commanded(group: str) -> str:
    """A group with its place, where it has one: `loss@pretrain.loss`."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        choices = hydra.compose("config", return_hydra_config=True).hydra.runtime.choices
    return next((choice for choice in choices if choice.partition("@")[0] == group), group)


def checked(*overrides: str) -> Config:
    composed = settings(*overrides)
    check(composed, Config)
    return Config(**composed)


@dataclass(frozen=True)
class Tiny:
    """A network with random weights on one process, and the statistics that objectives ask for."""

    denoiser: Denoiser
    images: Tensor
    levels: int
    measured: dict[str, Any]

    @property
    def process(self) -> Process:
        return self.denoiser.process

    def statistics(self, kinds: Any) -> Statistics:
        for kind in kinds:
            if kind not in self.measured:
                estimator = estimator_class(kind)(
                    self.images,
                    None,
                    split="train",
                    levels=self.levels,
                    indices=range(1, T + 1),
                    seed=0,
                    batch_size=4,
                )
                with torch.inference_mode():
                    rows = [estimator.measure(self.denoiser, row) for row in range(len(estimator))]
                self.measured[kind] = estimator.collect(self.process, rows)
        return {kind: self.measured[kind] for kind in kinds}


@pytest.fixture(scope="module", params=names("process"))
def tiny(request: pytest.FixtureRequest) -> Tiny:
    """For every process of conf/."""
    usable = "process.smallest_noise_level=0.07"  # no objective forbids a timestep above half a grey level
    model = "model=unet_digits_learned"  # serves every variance kind
    config = checked(f"process={request.param}", model, usable, *TINY)
    torch.manual_seed(0)
    denoiser = build(config.model).eval()
    for parameter in denoiser.parameters():  # some layers of a new network are zero, and hide all others
        torch.nn.init.normal_(parameter, std=0.1)
    return Tiny(denoiser, Digits().images("train")[:IMAGES], config.levels, {})


@pytest.fixture(scope="module", params=names("schedule_optimizer"))
def schedule_optimizer(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    """The only entry of every file of conf/schedule_optimizer."""
    ((name, node),) = checked(f"schedule_optimizer=[{request.param}]", *TINY).schedule_optimizer.items()
    return name, node


def objective_of(node: Mapping[str, Any]) -> Objective | None:
    objective: Objective | None = build(node["objective"]) if "objective" in node else None
    return objective


def search_of(node: Mapping[str, Any]) -> Search:
    """The search, of few iterations where it makes any."""
    brief = {"iterations": 2} if "iterations" in node["search"] else {}
    search: Search = build({**node["search"], **brief})
    return search


def objective_classes() -> list[Callable[..., Objective]]:
    """Every objective of the package: the classes that have a word of their own."""
    modules = [
        importlib.import_module(f"fewstep.objectives.{entry.name}")
        for entry in pkgutil.iter_modules(fewstep.objectives.__path__)
    ]
    return [
        found
        for module in modules
        for _, found in inspect.getmembers(module, inspect.isclass)
        if found.__module__ == module.__name__ and isinstance(getattr(found, "name", None), str)
    ]


# Composition


def test_the_groups_are_those_that_are_promised() -> None:
    groups = {group for group, _ in files()}
    promised = "model dataset process schedule_optimizer finetune evaluation solver trainer logger experiment"
    assert set(promised.split()) <= groups


@pytest.mark.parametrize("group, name", files(), ids=[f"{group}/{name}" for group, name in files()])
def test_every_file_composes_and_builds(group: str, name: str, tmp_path: Any) -> None:
    choice = f"{group}=[{name}]" if group in LISTS else f"{as_commanded(group)}={name}"
    learned = ["model=unet_digits_learned"] if group == "loss" else []  # which every loss can train
    config = checked(choice, *learned, *TINY, f"outputs={tmp_path}")
    Pipeline(config, build)
    assert list(tmp_path.iterdir()) == []


def test_everything_at_once_composes(tmp_path: Any) -> None:
    every = [f"{group}=[{','.join(names(group))}]" for group in LISTS]
    config = checked(*every, *TINY, f"outputs={tmp_path}")
    assert [*config.schedule_optimizer] == names("schedule_optimizer")
    assert [*config.solver] == names("solver")
    Pipeline(config, build)


# Names: tables, files and `find_schedule` call a method what its file is called.


def test_a_schedule_optimizer_is_named_after_its_objective_and_search(
    schedule_optimizer: tuple[str, Mapping[str, Any]], request: pytest.FixtureRequest
) -> None:
    name, node = schedule_optimizer
    objective, search = objective_of(node), build(node["search"])
    assert name == (search.name if objective is None else f"{objective.name}_{search.name}")
    assert search.needs_objective == (objective is not None)
    assert name in names("schedule_optimizer")


@pytest.mark.parametrize("name", names("solver"))
def test_a_solver_is_named_after_its_file(name: str) -> None:
    ((key, node),) = checked(f"solver=[{name}]", *TINY).solver.items()
    assert key == name == build(node).name


@pytest.mark.parametrize("name", names("process"))
def test_a_process_is_named_after_its_file_and_has_a_smallest_noise_level(name: str) -> None:
    process = build(checked(f"process={name}", *TINY, "process.smallest_noise_level=0.03").process)
    assert process.name == name
    assert process.noise_level(process.grid[1]).item() == pytest.approx(0.03, rel=1e-9)


@pytest.mark.parametrize("name", names("dataset"))
def test_a_dataset_is_named_after_its_file_and_states_its_levels(name: str) -> None:
    config = checked(f"dataset={name}", *TINY)
    dataset = build(config.dataset)
    assert dataset.name == name
    assert dataset.levels == config.levels
    images = dataset.images("train").double()
    assert images.shape[1:] == dataset.shape
    assert config.data_std == pytest.approx(images.var(0).mean().sqrt().item(), abs=5e-4)


# Schedule optimizers


def test_every_schedule_optimizer_finds_schedules_on_every_process(
    tiny: Tiny, schedule_optimizer: tuple[str, Mapping[str, Any]]
) -> None:
    _, node = schedule_optimizer
    steps = [1, 2, 4, T]
    objective, search = objective_of(node), search_of(node)
    statistics = {} if objective is None else tiny.statistics([*objective.needs, *search.needs])
    found = search(objective, statistics, tiny.denoiser, steps)
    assert [*found] == steps
    for K, schedule in found.items():
        assert schedule.steps == K
        assert schedule.process == tiny.process
        assert schedule.times[0] == 0
        assert schedule.times[-1] == 1
        assert (schedule.times.diff() > 0).all()
        if objective is not None:
            assert abs(objective.value(statistics, schedule, tiny.denoiser)) < float("inf")
    if all(schedule.times[1] in tiny.process.grid for schedule in found.values()):
        assert found[T].indices == list(range(T + 1))


@pytest.mark.parametrize("steps", [[], [0], [-1], [T + 1], [2, 2], [2.0], [True]])
def test_every_schedule_optimizer_refuses_the_same_numbers_of_steps(
    steps: list[Any], schedule_optimizer: tuple[str, Mapping[str, Any]]
) -> None:
    process = Process.cosine(T, 1 / 16)
    denoiser = Denoiser(lambda x, time: x, process, "eps")
    tiny = Tiny(denoiser, Digits().images("train")[:2], 17, {})
    objective, search = objective_of(schedule_optimizer[1]), search_of(schedule_optimizer[1])
    statistics = {} if objective is None else tiny.statistics([*objective.needs, *search.needs])
    with pytest.raises(fewstep.UserError):
        search(objective, statistics, denoiser, steps)


# Objectives


def paths() -> list[list[int]]:
    return [[0, T], [0, 1, T], [0, 5, T], [0, 3, 4, 17, T], list(range(T + 1))]


@pytest.mark.parametrize("make", objective_classes(), ids=lambda make: make.__name__)
def test_every_objective_values_a_path_as_its_table_does(make: Callable[..., Objective], tiny: Tiny) -> None:
    objective = make()
    statistics = tiny.statistics(objective.needs)
    constants = []
    for path in paths():
        schedule = Schedule.on_grid(path, tiny.process)
        table = objective.edge_costs(statistics, around=schedule)
        assert torch.equal(table.times, tiny.process.grid)
        assert torch.isfinite(table.costs[torch.ones_like(table.costs, dtype=torch.bool).triu(1)]).all()
        constants.append(objective.value(statistics, schedule, tiny.denoiser) - table.total(path))
    if objective.linearised:  # a table's slope is the value's, as the objective's own tests say; its total is not
        return
    # What the table leaves out is the same for every path.
    assert constants == pytest.approx([constants[0]] * len(constants), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("make", objective_classes(), ids=lambda make: make.__name__)
def test_every_objective_has_a_loss_with_a_slope_and_weights_of_times(
    make: Callable[..., Objective], tiny: Tiny
) -> None:
    objective = make()
    statistics = tiny.statistics(objective.needs)
    schedule = Schedule.on_grid([0, 2, 9, 15, T], tiny.process)
    x0 = tiny.images.double()
    times = schedule.times.clone().requires_grad_()
    loss = objective.loss(tiny.denoiser, x0, times, Noise(0, range(IMAGES), x0.shape[1:])(0), statistics)
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


@pytest.mark.parametrize("make", objective_classes(), ids=lambda make: make.__name__)
def test_every_kind_of_statistics_comes_back_from_its_file(
    make: Callable[..., Objective], tiny: Tiny, tmp_path: Any
) -> None:
    objective = make()
    statistics = tiny.statistics(objective.needs)
    again = {}
    for kind, measured in statistics.items():
        measured.save(tmp_path / kind)
        again[kind] = load_statistics(kind)(tmp_path / kind)
    schedule = Schedule.on_grid([0, 3, T], tiny.process)
    assert objective.value(again, schedule, tiny.denoiser) == objective.value(statistics, schedule, tiny.denoiser)


# Solvers


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("name", names("solver"))
def test_every_solver_goes_from_the_prior_to_a_finite_image_in_k_steps(
    name: str, variance: str, tiny: Tiny
) -> None:
    solver: Solver = build(checked(f"solver=[{name}]", *TINY, f"variance={variance}").solver[name])
    solver.fit(tiny.statistics(solver.needs))
    for K in (1, 4):
        schedule = Schedule.on_grid([0, *range(T - K + 1, T + 1)], tiny.process)
        noise = Noise(7, range(3), tiny.images.shape[1:])
        calls = tiny.denoiser.calls
        with torch.inference_mode():
            steps = list(solver(tiny.denoiser, schedule, noise))
            calls = tiny.denoiser.calls - calls
            start = initial_state(tiny.denoiser, schedule, noise)
            first = tiny.denoiser(start, schedule.times[-1]).x0
        assert calls >= K
        times = schedule.times.flip(0).tolist()
        assert [(step.t, step.s) for step in steps] == [*itertools.pairwise(times)]
        assert torch.equal(steps[0].x0, first)
        assert steps[-1].s == 0
        assert steps[-1].x.dtype == torch.float64
        assert steps[-1].x.shape == (3, *tiny.images.shape[1:])
        assert all(torch.isfinite(step.x).all() for step in steps)
        # The protocol's end: the last move returns the denoiser's image.
        torch.testing.assert_close(steps[-1].x, steps[-1].x0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", names("solver"))
def test_every_solver_refuses_a_schedule_of_another_process(name: str, tiny: Tiny) -> None:
    solver: Solver = build(checked(f"solver=[{name}]", *TINY).solver[name])
    solver.fit(tiny.statistics(solver.needs))
    schedule = Schedule.on_grid([0, 3, T], Process.cosine(T, 0.01))
    with pytest.raises(fewstep.UserError, match=r"made for Process.cosine\(T=24, smallest_noise_level=0.01\)"):
        next(iter(solver(tiny.denoiser, schedule, Noise(0, range(1), (1, 8, 8)))))


# Losses


@pytest.mark.parametrize("process", names("process"))
@pytest.mark.parametrize("name", names("loss"))
def test_every_loss_is_named_after_its_file_and_has_a_slope_at_every_timestep(name: str, process: str) -> None:
    """Also below the first one, where the neighbour is the data."""
    choices = [f"loss@pretrain.loss={name}", "model=unet_digits_learned", f"process={process}"]
    config = checked(*choices, *TINY)
    torch.manual_seed(0)
    loss, denoiser = build(config.pretrain["loss"]), build(config.model)
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    times = loss.time_distribution(denoiser.process)
    drawn = times.draw((torch.arange(T, dtype=torch.float64) + 0.5) / T)
    assert loss.name == name
    assert torch.equal(drawn.t, denoiser.process.grid[1:])
    x0 = Digits().images("train")[:T]
    losses = loss(denoiser, x0, drawn.s, drawn.t, torch.randn(x0.shape), T)
    assert losses.shape == (T,)
    assert torch.isfinite(losses).all()
    for one in losses:
        slopes = torch.autograd.grad(one, denoiser.parameters(), retain_graph=True)
        assert all(torch.isfinite(slope).all() for slope in slopes)
        assert any((slope != 0).any() for slope in slopes)
