"""Configurations: every key is one that somebody takes; a typo is told its likely intent."""

import copy
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from fewstep.errors import UserError
from fewstep.schema import check, closest, unknown

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


def with_value(dotted: str, value: object) -> dict[str, Any]:
    """`VALID` with one value set, or removed if `value` is `...`."""
    config = copy.deepcopy(VALID)
    *parents, last = dotted.split(".")
    place: Any = config
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return config


def complaint(config: Mapping[str, Any], root: type | None = Root) -> str:
    with pytest.raises(UserError) as error:
        check(config, root)
    return str(error.value)


def test_a_valid_configuration_passes() -> None:
    check(VALID, Root)
    check({"a": VALID["model"], "b": {"c": VALID["model"]}}, None)
    check(VALID["model"], None)


class TestUnknownKeys:
    def test_in_a_target(self) -> None:
        assert complaint(with_value("schedule_optimizer.elbo_dp.objective.varience", "beta")) == (
            "schedule_optimizer.elbo_dp.objective.varience is not a setting of ElboObjective;"
            " did you mean 'variance'? It takes: variance, decoder."
        )

    def test_in_a_dataclass(self) -> None:
        message = complaint(with_value("pretrain.learning_rat", 1.0))
        assert message.startswith(
            "pretrain.learning_rat is not a setting of Pretrain; did you mean 'learning_rate'?"
        )

    def test_at_the_top(self) -> None:
        message = complaint(with_value("sead", 1))
        assert message.startswith(
            "sead is not a setting of the configuration; did you mean 'seed'? It takes: pretrain,"
        )

    def test_in_the_wrong_section(self) -> None:
        assert "did you mean 'pretrain.iterations'?" in complaint(with_value("iteration", 10))
        assert "did you mean 'pretrain.iterations'?" in complaint(
            with_value("schedule_optimizer.elbo_dp.search.iterations", 10)
        )

    def test_like_nothing(self) -> None:
        message = complaint(with_value("schedule_optimizer.elbo_dp.objective.zzz", 1))
        assert message.endswith("zzz is not a setting of ElboObjective. It takes: variance, decoder.")

    def test_in_a_list(self) -> None:
        assert "callbacks[0].thrid is not a setting of only; did you mean 'third'?" in complaint(
            with_value("callbacks.0.thrid", 1)
        )

    def test_of_the_control_words(self) -> None:
        assert "did you mean '_partial_'?" in complaint(
            with_value("schedule_optimizer.elbo_dp.search._partail_", True)
        )
        assert "model._taget_ is not a setting; did you mean '_target_'?" in complaint(
            with_value("model", {"_taget_": "shop.goods.free"})
        )

    def test_where_nothing_takes_them(self) -> None:
        assert complaint(with_value("model", {"width": 8})) == (
            "model.width is a setting of nothing, because the section model has no '_target_'."
        )
        assert "has no '_target_'" in complaint({"a": {"b": {"c": 1}}}, None)

    def test_where_an_object_is_wanted(self) -> None:
        assert "schedule_optimizer.elbo_dp.search has no '_target_'; it must be Search" in complaint(
            with_value("schedule_optimizer.elbo_dp.search", {"tolerance": 1})
        )

    def test_that_only_positions_take(self) -> None:
        assert "callbacks[0].first is not a setting" in complaint(with_value("callbacks.0.first", 1))


class TestRequiredSettings:
    @pytest.mark.parametrize(
        "dotted, sentence",
        [
            (
                "schedule_optimizer.elbo_dp.objective.variance",
                "objective (ElboObjective) lacks 'variance';",
            ),
            ("pretrain.iterations", "pretrain (Pretrain) lacks 'iterations';"),
            ("pretrain", "The configuration lacks 'pretrain'; it takes: pretrain, "),
            ("callbacks.0._args_", "callbacks[0] (only) lacks 'first';"),
            ("schedule_optimizer.elbo_dp.search._partial_", "search (Search) lacks 'steps';"),
        ],
    )
    def test_absent(self, dotted: str, sentence: str) -> None:
        assert sentence in complaint(with_value(dotted, ...))

    def test_left_to_the_user(self) -> None:
        assert complaint(with_value("pretrain.iterations", "???")) == (
            "pretrain.iterations must be given; it is an integer."
        )

    def test_arguments_by_position(self) -> None:
        check(with_value("callbacks", [{"_target_": "shop.goods.only", "_args_": [1, 2]}]), Root)
        too_many = {"_target_": "shop.goods.only", "_args_": [1, 2, 3]}
        assert complaint(too_many, None) == "_args_[2] is one too many: the configuration takes 2."
        assert "callbacks[0]._args_[2] is one too many: only takes 2." in complaint(
            with_value("callbacks", [too_many])
        )
        twice = with_value("callbacks.0._args_", [1, 2])
        assert "_args_[1] and callbacks[0].second are the same setting" in complaint(twice)


class TestTargets:
    @pytest.mark.parametrize(
        "target, sentence",
        [
            ("shop.goods.Serch", "shop.goods has no 'Serch'; did you mean 'shop.goods.Search'?"),
            ("shop.godos.Search", "shop has no 'godos'; did you mean 'shop.goods'?"),
            ("shpo.goods.Search", "there is no module 'shpo'; did you mean 'shop'?"),
            ("shop.goods.ElboObjective.defalt", "did you mean 'shop.goods.ElboObjective.default'?"),
            ("shop.goods.CONSTANT", "is neither a class nor a function"),
            ("shop.goods", "is neither a class nor a function"),
            ("shop.needy.Thing", "the module no_such_library_at_all is not installed"),
            ("shop.broken.Thing", "importing shop.broken failed (division by zero)"),
            ("shop..goods", "must be the dotted path"),
            ("", "must be the dotted path"),
            (3, "_target_ is 3, but must be text"),
            (None, "_target_ is None, but must be text"),
        ],
    )
    def test_that_do_not_exist(self, target: object, sentence: str) -> None:
        import shop  # type: ignore[import-not-found]  # noqa: F401

        message = complaint(with_value("model._target_", target))
        assert "model._target_" in message
        assert sentence in message

    def test_methods_and_builtins(self) -> None:
        check({"_target_": "shop.goods.ElboObjective.default", "images": 3}, None)
        check({"_target_": "builtins.dict", "a": 1, "b": {"c": 2}}, None)
        assert "images is 'many', but must be an integer" in complaint(
            {"_target_": "shop.goods.ElboObjective.default", "images": "many"}, None
        )

    def test_deep_in_free_sections_are_checked_too(self) -> None:
        config = with_value("model.nested", {"deep": [{"_target_": "shop.goods.Serch"}], "other": 1})
        assert "model.nested.deep[0]._target_" in complaint(config)

    def test_control_words_have_types(self) -> None:
        assert "_partial_ is 'yes', but must be true or false" in complaint(with_value("model._partial_", "yes"))
        assert "_convert_ is 'most', but must be one of" in complaint(with_value("model._convert_", "most"))


class TestTypes:
    @pytest.mark.parametrize(
        "dotted, value, sentence",
        [
            ("pretrain.iterations", "abc", "pretrain.iterations is 'abc', but must be an integer."),
            ("pretrain.iterations", 1.5, "must be an integer"),
            ("pretrain.iterations", True, "must be an integer"),
            ("pretrain.iterations", None, "must be an integer"),
            ("pretrain.iterations", [1], "must be an integer"),
            ("pretrain.iterations", {"a": {}}, "must be an integer"),
            ("pretrain.learning_rate", "fast", "must be a number"),
            ("pretrain.ema", "no", "must be a number or null"),
            ("pretrain.resume", 1, "must be true or false"),
            ("pretrain.name", 3, "must be text"),
            ("pretrain.precision", "16", "must be one of '32', 'bf16'"),
            ("pretrain.precision", 32, "must be one of '32', 'bf16'"),
            ("pretrain.widths", 4, "pretrain.widths is 4, but must be a list (each an integer)."),
            ("pretrain.widths", "48", "must be a list"),
            ("pretrain.widths", [4, "x"], "pretrain.widths[1] is 'x', but must be an integer."),
            ("pretrain.betas", [0.9], "must be a list of 2 values"),
            ("pretrain.betas", [0.9, "x"], "pretrain.betas[1] is 'x', but must be a number."),
            ("pretrain", 3, "pretrain is 3, but must be a section that describes Pretrain."),
            ("labels", [1], "labels is [1], but must be a section"),
            ("labels.one", "1", "labels.one is '1', but must be an integer."),
            ("stage", "serch", "must be one of 'all', 'pretrain', 'search'"),
            ("schedule_optimizer.elbo_dp.objective", "elbo", "must be a section that describes Objective"),
        ],
    )
    def test_refused(self, dotted: str, value: object, sentence: str) -> None:
        message = complaint(with_value(dotted, value))
        assert dotted in message
        assert sentence in message

    @pytest.mark.parametrize(
        "dotted, value",
        [
            ("pretrain.learning_rate", 1),
            ("pretrain.ema", 0.9),
            ("pretrain.widths", []),
            ("pretrain.betas", [0, 1.0]),
            ("labels", {}),
            ("schedule_optimizer", {"even": {"anything": 1}}),
            ("schedule_optimizer.elbo_dp.name", "x"),
        ],
    )
    def test_allowed(self, dotted: str, value: object) -> None:
        check(with_value(dotted, value), Root)


class TestSuggestions:
    @pytest.mark.parametrize(
        "word, options, expected",
        [
            ("varience", ["decoder", "variance"], "variance"),
            ("iteration", ["seed", "pretrain.iterations", "steps"], "pretrain.iterations"),
            ("pretrian.iterations", ["finetune.iterations", "pretrain.iterations"], "pretrain.iterations"),
            ("steps", ["steps", "search.steps"], "steps"),
            ("ELBO_DP", ["even", "elbo_dp"], "elbo_dp"),
            ("var", ["decoder", "variance"], "variance"),
            ("zzz", ["decoder", "variance"], None),
            ("anything", [], None),
        ],
    )
    def test_closest(self, word: str, options: list[str], expected: str | None) -> None:
        assert closest(word, options) == expected

    def test_unknown(self) -> None:
        error = unknown("solver", "ddmi", ["ancestral", "ddim"])
        assert isinstance(error, UserError)
        assert str(error) == "There is no solver 'ddmi'; did you mean 'ddim'? Allowed: ancestral, ddim."
        assert str(unknown("solver", "zzz", ["ddim"])) == "There is no solver 'zzz'. Allowed: ddim."
        assert str(unknown("solver", "zzz", [])) == "There is no solver 'zzz'. Allowed: nothing."

    def test_long_lists_are_cut(self) -> None:
        assert str(unknown("solver", "zzz", [f"a{i}" for i in range(100)])).endswith("a29 and 70 more.")
