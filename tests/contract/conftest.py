"""What every file of conf/ promises is tested here: everything is found by listing conf/ and the package.

So a new method is covered without being told. Composed configurations are of a tiny network on a short grid.
"""

import copy
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import hydra
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

import fewstep.objectives
from fewstep.__main__ import CONF, build
from fewstep.artefacts.statistics import estimator_class
from fewstep.backbones.classifier import Classifier
from fewstep.config import Config
from fewstep.data.digits import Digits
from fewstep.denoiser import Denoiser
from fewstep.metrics.frechet import FeatureMoments
from fewstep.objectives.base import Objective, Statistics
from fewstep.process import Process
from fewstep.schema import MISSING, check
from fewstep.search.base import Search
from fewstep.statistics.features import KIND as FEATURES
from fewstep.statistics.features import SampleFeatures

T, IMAGES = 24, 6
TINY = [
    f"process.T={T}",
    f"evaluation.fine_steps={T}",
    "model.backbone.model_channels=8",
    "model.backbone.num_groups=2",
    "steps=[2,4,8]",
]
BRIEF = {
    "iterations": 2,
    "evaluations": 7,
    "trajectories": IMAGES,
    "samples": 8,
}  # settings of objectives and searches
LISTS = ("schedule_optimizer", "solver")  # groups that several options are taken of


def _files() -> list[tuple[str, str]]:
    """(group, name) of every YAML of conf/ but its root."""
    found = [path.relative_to(CONF).with_suffix("") for path in sorted(CONF.rglob("*.yaml"))]
    return [(path.parent.as_posix(), path.name) for path in found if path.name != "config"]


def _names(group: str) -> list[str]:
    return [name for where, name in _files() if where == group]


def _composed(*overrides: str) -> Config:
    return Config(**copy.deepcopy(_plain(*overrides)))


@cache
def _plain(*overrides: str) -> dict[str, Any]:
    """Composed once, as tests ask for the same configurations again and again."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose("config", [*overrides, *TINY])
    for key in _mandatory(composed):
        OmegaConf.update(composed, key, "/nowhere" if key.endswith("path") else 8)
    plain = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(plain, dict)
    settings = {str(key): value for key, value in plain.items()}
    check(settings, Config)
    return settings


def _mandatory(node: Any) -> list[str]:
    """The keys of settings without a value, which the user must give: paths, or else numbers."""
    return [key for key, value in _settings(OmegaConf.to_container(node, resolve=False)) if value == MISSING]


def _settings(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _needs_no_files(dataset: str) -> bool:
    return not _mandatory(OmegaConf.load(CONF / "dataset" / f"{dataset}.yaml"))


def _asks_for_a_file(model: str) -> bool:
    """Whether a model's weights come from a file whose path the user gives."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.is_missing(hydra.compose("config", [f"model={model}"]).model, "path")


def _model_of(experiment: str) -> str | None:
    """The model that an experiment chooses, if it does."""
    defaults = OmegaConf.load(CONF / "experiment" / f"{experiment}.yaml").get("defaults", [])
    return next((entry["override /model"] for entry in defaults if "override /model" in entry), None)


FROM_FILES = [name for name in _names("model") if _asks_for_a_file(name)]
OF_FILES = [name for name in _names("experiment") if _model_of(name) in FROM_FILES]
COMPOSED = [
    (group, name)
    for group, name in _files()
    if name not in {"model": FROM_FILES, "experiment": OF_FILES}.get(group, [])
]


def _as_commanded(group: str) -> str:
    """A group with its place, where it has one: `loss@pretrain.loss`."""
    return next((choice for choice in _choices() if choice.partition("@")[0] == group), group)


@cache
def _choices() -> list[str]:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return [*hydra.compose("config", return_hydra_config=True).hydra.runtime.choices]


def _objective_classes() -> list[Callable[..., Objective]]:
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


@pytest.fixture(scope="session")
def names() -> Callable[[str], list[str]]:
    """The names in a group of conf/."""
    return _names


@pytest.fixture(scope="session")
def groups() -> set[str]:
    return {group for group, _ in _files()}


@pytest.fixture(scope="session")
def composed() -> Callable[..., Config]:
    """The configuration as a job of the program gets it, checked, at tiny size."""
    return _composed


@pytest.fixture(params=FROM_FILES)
def model_from_a_file(request: pytest.FixtureRequest) -> str:
    """Every model whose weights come from a file."""
    return request.param


@pytest.fixture(params=OF_FILES)
def experiment_of_files(request: pytest.FixtureRequest) -> str:
    """Every experiment whose model's weights come from a file."""
    return request.param


@pytest.fixture(params=COMPOSED, ids=[f"{group}/{name}" for group, name in COMPOSED])
def choice(request: pytest.FixtureRequest) -> str:
    """The override that chooses a file of conf/: every one but those above, which have no tiny size."""
    group, name = request.param
    return f"{group}=[{name}]" if group in LISTS else f"{_as_commanded(group)}={name}"


@pytest.fixture(params=_names("solver"))
def solver_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=_names("process"))
def process_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=_names("dataset"))
def dataset_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=filter(_needs_no_files, _names("dataset")))
def own_dataset_name(request: pytest.FixtureRequest) -> str:
    """A dataset that needs no files of the user's."""
    return request.param


@pytest.fixture(params=_names("loss"))
def loss_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=_objective_classes(), ids=lambda make: make.__name__)
def objective(request: pytest.FixtureRequest) -> Objective:
    """Every objective of the package, as it is by default but for what takes long."""
    return request.param(
        **{name: BRIEF[name] for name in BRIEF if name in inspect.signature(request.param).parameters}
    )


@dataclass(frozen=True)
class Tiny:
    """A network on some process, and the statistics that objectives and searches ask for."""

    denoiser: Denoiser
    images: Tensor
    levels: int
    measured: dict[str, Any] = field(default_factory=dict)

    @property
    def process(self) -> Process:
        return self.denoiser.process

    def statistics(self, kinds: Sequence[str]) -> Statistics:
        for kind in kinds:
            if kind == FEATURES:
                self.measured[kind] = self.features()
            elif kind not in self.measured:
                make = estimator_class(kind)
                own = {"trajectories": IMAGES} if hasattr(make, "settings") else {}
                estimator = make(
                    self.images,
                    None,
                    split=getattr(make, "of_split", "train"),
                    levels=self.levels,
                    indices=range(1, T + 1),
                    seed=0,
                    batch_size=4,
                    **own,
                )
                with torch.inference_mode():
                    rows = [estimator.measure(self.denoiser, row) for row in range(len(estimator))]
                self.measured[kind] = estimator.collect(self.process, rows)
        return {kind: self.measured[kind] for kind in kinds}

    def features(self) -> SampleFeatures:
        """A judge that has learned nothing."""
        torch.manual_seed(0)
        extractor = Classifier(in_channels=1, image_size=8, num_classes=10, width=4, num_features=3).eval()
        with torch.inference_mode():
            reference = FeatureMoments.of(extractor.features(self.images))
        return SampleFeatures(extractor, reference, tuple(self.images.shape[1:]), self.levels)


@pytest.fixture(scope="module", params=_names("process"))
def tiny(request: pytest.FixtureRequest) -> Tiny:
    """For every process of conf/, a network with random weights."""
    usable = "process.smallest_noise_level=0.07"  # no objective forbids a timestep above half a grey level
    model = "model=unet_digits_learned"  # serves every variance kind
    config = _composed(f"process={request.param}", model, usable)
    torch.manual_seed(0)
    denoiser = build(config.model).eval()
    for parameter in denoiser.parameters():  # some layers of a new network are zero, and hide all others
        torch.nn.init.normal_(parameter, std=0.1)
    return Tiny(denoiser, Digits().images("train")[:IMAGES], config.levels)


@pytest.fixture
def without_network() -> Tiny:
    """A denoiser of few operations, where the network's numbers do not matter."""
    process = Process.cosine(T, 1 / 16)
    return Tiny(Denoiser(lambda x, time: x, process, "eps"), Digits().images("train")[:2], 17)


class Optimizer(NamedTuple):
    """A schedule optimizer, brief where it is one that takes long."""

    name: str
    objective: Objective | None
    search: Search

    def statistics(self, tiny: Tiny) -> Statistics:
        return {} if self.objective is None else tiny.statistics([*self.objective.needs, *self.search.needs])


@pytest.fixture(scope="module", params=_names("schedule_optimizer"))
def settings_of_optimizer(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    """The only entry of every file of conf/schedule_optimizer."""
    (entry,) = _composed(f"schedule_optimizer=[{request.param}]").schedule_optimizer.items()
    return entry


@pytest.fixture
def optimizer(settings_of_optimizer: tuple[str, Mapping[str, Any]]) -> Optimizer:
    name, node = settings_of_optimizer
    objective = build(_briefly(node["objective"])) if "objective" in node else None
    return Optimizer(name, objective, build(_briefly(node["search"])))


def _briefly(node: Mapping[str, Any]) -> dict[str, Any]:
    return {**node, **{name: value for name, value in BRIEF.items() if name in node}}
