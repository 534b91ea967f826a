"""A typo is told its likely intent."""

import pytest

from fewstep.errors import UserError
from fewstep.schema import closest, unknown


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
