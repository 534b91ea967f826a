"""A folder that holds another run, or something else, is refused and left as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from fewstep.errors import UserError
from fewstep.run import Run


class TestOtherRuns:
    @pytest.mark.parametrize("done", [True, False])
    def test_another_configuration_is_refused_with_keys_and_values(
        self, tmp_path: Path, done: bool, config: dict[str, Any], finish: Callable[[Run], None]
    ) -> None:
        with Run(tmp_path, config) as run:
            if done:
                finish(run)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        other = {"steps": [4], "model": {"width": 64, "depth": 2}, "seed": 0, "name": "x"}
        with pytest.raises(UserError) as refusal, Run(tmp_path, other):
            pass
        message = str(refusal.value)
        assert str(tmp_path) in message
        assert "model.width is 32 there and 64 here" in message
        assert "steps is [4,8] there and [4] here" in message
        assert 'name is absent there and "x" here' in message
        assert "depth" not in message
        assert "seed" not in message
        assert "remove that folder" in message
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_a_refused_run_does_not_keep_the_folder_locked(self, tmp_path: Path, config: dict[str, Any]) -> None:
        with Run(tmp_path, config):
            pass
        refused = Run(tmp_path, {"seed": 1})
        with pytest.raises(UserError, match="another configuration"):
            refused.__enter__()
        with FileLock(tmp_path / ".lock", timeout=0) as lock:
            assert lock.is_locked

    def test_beyond_five_differing_keys_a_count(self, tmp_path: Path) -> None:
        with Run(tmp_path, {f"k{i}": 0 for i in range(8)}):
            pass
        with (
            pytest.raises(UserError, match="and 3 more differ") as refusal,
            Run(tmp_path, {f"k{i}": 1 for i in range(8)}),
        ):
            pass
        assert str(refusal.value).count(" there and ") == 5

    def test_tuples_and_order_do_not_make_another_configuration(
        self, tmp_path: Path, finish: Callable[[Run], None]
    ) -> None:
        with Run(tmp_path, {"a": (1, 2), "b": 3}) as run:
            finish(run)
        with Run(tmp_path, {"b": 3, "a": [1, 2]}) as run:
            assert run.complete

    @pytest.mark.parametrize("done", [True, False])
    def test_a_changed_input_is_named(
        self, tmp_path: Path, done: bool, config: dict[str, Any], finish: Callable[[Run], None]
    ) -> None:
        folder, weights = tmp_path / "run", tmp_path / "weights.bin"
        weights.write_bytes(b"old")
        with Run(folder, config, {"weights": weights}) as run:
            if done:
                finish(run)
        weights.write_bytes(b"new")
        with (
            pytest.raises(UserError, match=r"'weights' .*is not the one"),
            Run(folder, config, {"weights": weights}),
        ):
            pass
        with pytest.raises(UserError, match="'weights'"), Run(folder, config):
            pass

    def test_a_moved_input_with_the_same_bytes_is_the_same(
        self, tmp_path: Path, config: dict[str, Any], completed: Callable[..., None]
    ) -> None:
        weights = tmp_path / "weights.bin"
        weights.write_bytes(b"same")
        completed(tmp_path / "run", weights=weights)
        moved = weights.rename(tmp_path / "moved.bin")
        with Run(tmp_path / "run", config, {"weights": moved}) as run:
            assert run.complete

    def test_a_missing_input_is_named_and_nothing_begins(self, tmp_path: Path, config: dict[str, Any]) -> None:
        with (
            pytest.raises(UserError, match="'weights' is missing"),
            Run(tmp_path / "run", config, {"weights": tmp_path / "none"}),
        ):
            pass
        assert not (tmp_path / "run").exists()

    def test_a_folder_of_somebody_else_is_not_touched(self, tmp_path: Path, config: dict[str, Any]) -> None:
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(UserError, match="holds no run"), Run(tmp_path, config):
            pass
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
