"""Configurations: every key is one that somebody takes, and none that is needed is absent."""

from collections.abc import Callable
from typing import Any

import pytest

from fewstep.schema import check

Complaint, WithValue = Callable[..., str], Callable[[str, object], dict[str, Any]]


def test_a_valid_configuration_passes(root: type, valid: dict[str, Any]) -> None:
    check(valid, root)
    check({"a": valid["model"], "b": {"c": valid["model"]}}, None)
    check(valid["model"], None)


class TestUnknownKeys:
    def test_in_a_target(self, complaint: Complaint, with_value: WithValue) -> None:
        assert complaint(with_value("schedule_optimizer.elbo_dp.objective.varience", "beta")) == (
            "schedule_optimizer.elbo_dp.objective.varience is not a setting of ElboObjective;"
            " did you mean 'variance'? It takes: variance, decoder."
        )

    def test_in_a_dataclass(self, complaint: Complaint, with_value: WithValue) -> None:
        message = complaint(with_value("pretrain.learning_rat", 1.0))
        assert message.startswith(
            "pretrain.learning_rat is not a setting of Pretrain; did you mean 'learning_rate'?"
        )

    def test_at_the_top(self, complaint: Complaint, with_value: WithValue) -> None:
        message = complaint(with_value("sead", 1))
        assert message.startswith(
            "sead is not a setting of the configuration; did you mean 'seed'? It takes: pretrain,"
        )

    def test_in_the_wrong_section(self, complaint: Complaint, with_value: WithValue) -> None:
        assert "did you mean 'pretrain.iterations'?" in complaint(with_value("iteration", 10))
        assert "did you mean 'pretrain.iterations'?" in complaint(
            with_value("schedule_optimizer.elbo_dp.search.iterations", 10)
        )

    def test_like_nothing(self, complaint: Complaint, with_value: WithValue) -> None:
        message = complaint(with_value("schedule_optimizer.elbo_dp.objective.zzz", 1))
        assert message.endswith("zzz is not a setting of ElboObjective. It takes: variance, decoder.")

    def test_in_a_list(self, complaint: Complaint, with_value: WithValue) -> None:
        assert "callbacks[0].thrid is not a setting of only; did you mean 'third'?" in complaint(
            with_value("callbacks.0.thrid", 1)
        )

    def test_of_the_control_words(self, complaint: Complaint, with_value: WithValue) -> None:
        assert "did you mean '_partial_'?" in complaint(
            with_value("schedule_optimizer.elbo_dp.search._partail_", True)
        )
        assert "model._taget_ is not a setting; did you mean '_target_'?" in complaint(
            with_value("model", {"_taget_": "shop.goods.free"})
        )

    def test_where_nothing_takes_them(self, complaint: Complaint, with_value: WithValue) -> None:
        assert complaint(with_value("model", {"width": 8})) == (
            "model.width is a setting of nothing, because the section model has no '_target_'."
        )
        assert "has no '_target_'" in complaint({"a": {"b": {"c": 1}}}, None)

    def test_where_an_object_is_wanted(self, complaint: Complaint, with_value: WithValue) -> None:
        assert "schedule_optimizer.elbo_dp.search has no '_target_'; it must be Search" in complaint(
            with_value("schedule_optimizer.elbo_dp.search", {"tolerance": 1})
        )

    def test_that_only_positions_take(self, complaint: Complaint, with_value: WithValue) -> None:
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
    def test_absent(self, dotted: str, sentence: str, complaint: Complaint, with_value: WithValue) -> None:
        assert sentence in complaint(with_value(dotted, ...))

    def test_left_to_the_user(self, complaint: Complaint, with_value: WithValue) -> None:
        assert complaint(with_value("pretrain.iterations", "???")) == (
            "pretrain.iterations must be given; it is an integer."
        )

    def test_arguments_by_position(self, complaint: Complaint, with_value: WithValue, root: type) -> None:
        check(with_value("callbacks", [{"_target_": "shop.goods.only", "_args_": [1, 2]}]), root)
        too_many = {"_target_": "shop.goods.only", "_args_": [1, 2, 3]}
        assert complaint(too_many, None) == "_args_[2] is one too many: the configuration takes 2."
        assert "callbacks[0]._args_[2] is one too many: only takes 2." in complaint(
            with_value("callbacks", [too_many])
        )
        twice = with_value("callbacks.0._args_", [1, 2])
        assert "_args_[1] and callbacks[0].second are the same setting" in complaint(twice)
