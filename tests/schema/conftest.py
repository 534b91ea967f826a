"""A configuration of things from a made-up package, valid until a test changes it."""

import copy
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from fewstep.errors import UserError
from fewstep.schema import check

MODULE = '''
"""Targets for configurations."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Objective(Protocol):
    def value(self) -> float: ...


class ElboObjective:
    def __init__(self, variance: str, decoder: str = "additive") -> None: ...

    @classmethod
    def default(cls, images: int = 128) -> "ElboObjective": ...


class Search:
    def __init__(self, steps: Sequence[int], tolerance: float = 1e-3, verbose: bool = False) -> None: ...


class Optimizer:
    def __init__(self, objective: Objective, search: Search, name: str = None) -> None: ...


def free(**settings): ...


def only(first, /, second, *, third=3): ...


CONSTANT = 3
'''


@dataclass
class Pretrain:
    iterations: int
    learning_rate: float = 1e-3
    widths: Sequence[int] = (32, 64)
    betas: tuple[float, float] = (0.9, 0.99)
    precision: Literal["32", "bf16"] = "32"
    ema: float | None = None
    resume: bool = False
    name: str = "unet"


@dataclass
class Root:
    pretrain: Pretrain
    schedule_optimizer: Mapping[str, Any]
    stage: Literal["all", "pretrain", "search"] = "all"
    seed: int = 0
    model: Any = None
    labels: Mapping[str, int] = field(default_factory=dict)
    callbacks: list[Any] = field(default_factory=list)


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package `shop` of things to be configured."""
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "goods.py").write_text(textwrap.dedent(MODULE))
    (package / "needy.py").write_text("import no_such_library_at_all\n")
    (package / "broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[name]


VALID: dict[str, Any] = {
    "stage": "search",
    "seed": 1,
    "pretrain": {"iterations": 100, "ema": None},
    "model": {"_target_": "shop.goods.free", "width": 8, "nested": {"anything": {"goes": 1}}},
    "labels": {"zero": 0},
    "callbacks": [{"_target_": "shop.goods.only", "_args_": [1], "second": 2}],
    "schedule_optimizer": {
        "elbo_dp": {
            "_target_": "shop.goods.Optimizer",
            "objective": {"_target_": "shop.goods.ElboObjective", "variance": "optimal"},
            "search": {"_target_": "shop.goods.Search", "_partial_": True, "tolerance": 1},
            "name": None,
        },
    },
}


@pytest.fixture
def root() -> type:
    """What the whole configuration is."""
    return Root


@pytest.fixture
def valid() -> dict[str, Any]:
    return copy.deepcopy(VALID)


@pytest.fixture
def with_value(valid: dict[str, Any]) -> Callable[[str, object], dict[str, Any]]:
    """(dotted, value) → the valid configuration with one value set, or removed if `value` is `...`."""

    def make(dotted: str, value: object) -> dict[str, Any]:
        config = copy.deepcopy(valid)
        *parents, last = dotted.split(".")
        place: Any = config
        for name in parents:
            place = place[int(name)] if isinstance(place, list) else place[name]
        if value is ...:
            del place[last]
        else:
            place[last] = value
        return config

    return make


@pytest.fixture
def complaint() -> Callable[..., str]:
    """(configuration, what it is) → the sentence with which it is refused."""

    def make(config: Mapping[str, Any], root: type | None = Root) -> str:
        with pytest.raises(UserError) as error:
            check(config, root)
        return str(error.value)

    return make
