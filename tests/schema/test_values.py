"""Configurations: every target exists, and every value is of the type that is asked for."""

from collections.abc import Callable
from typing import Any

import pytest

from fewstep.schema import check

Complaint, WithValue = Callable[..., str], Callable[[str, object], dict[str, Any]]


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
    def test_that_do_not_exist(
        self, target: object, sentence: str, complaint: Complaint, with_value: WithValue
    ) -> None:
        import shop  # type: ignore[import-not-found]  # noqa: F401

        message = complaint(with_value("model._target_", target))
        assert "model._target_" in message
        assert sentence in message

    def test_methods_and_builtins(self, complaint: Complaint) -> None:
        check({"_target_": "shop.goods.ElboObjective.default", "images": 3}, None)
        check({"_target_": "builtins.dict", "a": 1, "b": {"c": 2}}, None)
        assert "images is 'many', but must be an integer" in complaint(
            {"_target_": "shop.goods.ElboObjective.default", "images": "many"}, None
        )

    def test_deep_in_free_sections_are_checked_too(self, complaint: Complaint, with_value: WithValue) -> None:
        config = with_value("model.nested", {"deep": [{"_target_": "shop.goods.Serch"}], "other": 1})
        assert "model.nested.deep[0]._target_" in complaint(config)

    def test_control_words_have_types(self, complaint: Complaint, with_value: WithValue) -> None:
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
    def test_refused(
        self, dotted: str, value: object, sentence: str, complaint: Complaint, with_value: WithValue
    ) -> None:
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
    def test_allowed(self, dotted: str, value: object, with_value: WithValue, root: type) -> None:
        check(with_value(dotted, value), root)
