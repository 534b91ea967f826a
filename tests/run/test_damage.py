"""Damaged records, full disks and folders that cannot be written are told in one sentence."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fewstep.errors import UserError
from fewstep.files import write_atomically
from fewstep.run import Run, read_record


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: a full disk, as far as the process can tell."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def read_only_folder(fill: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """A folder that this process may read but not write; root is not held back by modes, so it steps down."""
    outer = Path(tempfile.mkdtemp())
    outer.chmod(0o755)
    folder = outer / "run"
    folder.mkdir()
    if fill is not None:
        fill(folder)
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.seteuid(65534)
        if not os.access(outer, os.X_OK, effective_ids=True):
            pytest.skip("the temporary folder is closed to other users")
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(outer)


class TestDamage:
    @pytest.mark.parametrize("length", [0, 1, 40, 0.5, 0.98])
    @pytest.mark.parametrize("done", [True, False])
    def test_truncated_markers(
        self, tmp_path: Path, done: bool, length: float, config: dict[str, Any], finish: Callable[[Run], None]
    ) -> None:
        with Run(tmp_path, config) as run:
            if done:
                finish(run)
        marker = tmp_path / ("run.json" if done else "started.json")
        text = marker.read_bytes()
        marker.write_bytes(text[: int(length * len(text)) if isinstance(length, float) else length])
        with pytest.raises(UserError, match=f"{marker.name} is damaged"), Run(tmp_path, config):
            pass

    @pytest.mark.parametrize("field", ["config", "inputs", "seconds", "outputs", "facts", "device", "format"])
    @pytest.mark.parametrize("value", ["absent", None, [1], float("nan"), 10**400])
    def test_fields_of_the_wrong_kind(
        self, tmp_path: Path, field: str, value: object, completed: Callable[..., None]
    ) -> None:
        completed(tmp_path)
        record = json.loads((tmp_path / "run.json").read_text()) | {field: value}
        if value == "absent":
            del record[field]
        (tmp_path / "run.json").write_text(json.dumps(record))
        with pytest.raises(UserError, match=r"run\.json (is damaged|has a newer format)"):
            read_record(tmp_path)

    @pytest.mark.parametrize("text", [b"\xff\xfe", b"[]", b"3", b"[" * 100_000, b"null", b'{"format": 2}'])
    def test_files_that_are_no_markers(self, tmp_path: Path, text: bytes, config: dict[str, Any]) -> None:
        (tmp_path / "started.json").write_bytes(text)
        with pytest.raises(UserError, match=r"started\.json"), Run(tmp_path, config):
            pass
        assert (tmp_path / "started.json").read_bytes() == text

    def test_inputs_without_hashes(
        self, tmp_path: Path, config: dict[str, Any], completed: Callable[..., None]
    ) -> None:
        completed(tmp_path)
        record = json.loads((tmp_path / "run.json").read_text()) | {"inputs": {"weights": {"path": "x"}}}
        (tmp_path / "run.json").write_text(json.dumps(record))
        with pytest.raises(UserError, match="'inputs'"), Run(tmp_path, config):
            pass

    def test_no_run_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="There is no run"):
            read_record(tmp_path / "none")


class TestUnwritableFolders:
    def test_a_file_in_place_of_the_folder(self, tmp_path: Path, config: dict[str, Any]) -> None:
        (tmp_path / "file").write_text("content")
        with pytest.raises(UserError, match="is a file"), Run(tmp_path / "file", config):
            pass
        with pytest.raises(UserError, match="cannot hold a run"), Run(tmp_path / "file" / "run", config):
            pass
        assert (tmp_path / "file").read_text() == "content"

    def test_a_read_only_folder_holds_no_new_run(self, tmp_path: Path, config: dict[str, Any]) -> None:
        with read_only_folder() as folder:
            with pytest.raises(UserError, match=r"cannot hold a run \(Permission denied\)"), Run(folder, config):
                pass
            assert list(folder.iterdir()) == []

    def test_a_complete_run_in_a_read_only_folder_is_skipped(
        self, config: dict[str, Any], completed: Callable[..., None]
    ) -> None:
        with read_only_folder(completed) as folder, Run(folder, config) as run:
            assert run.complete

    def test_a_full_disk_on_entry(self, tmp_path: Path, config: dict[str, Any]) -> None:
        with (
            file_size_limit(0),
            pytest.raises(UserError, match="cannot hold a run"),
            Run(tmp_path / "run", config),
        ):
            pass
        with Run(tmp_path / "run", config) as run:
            assert not run.resumed

    def test_a_full_disk_in_mid_run(self, tmp_path: Path, config: dict[str, Any]) -> None:
        def fill_the_disk() -> None:
            with Run(tmp_path, config) as run, file_size_limit(1000):
                write_atomically(run.folder / "small.txt", "small")
                write_atomically(run.folder / "large.txt", "x" * 2000)

        with pytest.raises(UserError, match=r"stopped because a file could not be written"):
            fill_the_disk()
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "small.txt", "started.json"]
        with Run(tmp_path, config) as run:
            assert run.resumed

    def test_a_library_that_reports_a_full_disk_in_words(self, tmp_path: Path, config: dict[str, Any]) -> None:
        with pytest.raises(UserError, match="No space left on device"), Run(tmp_path, config):
            raise RuntimeError("I/O error: No space left on device (os error 28)")

    def test_other_errors_pass_through(self, tmp_path: Path, config: dict[str, Any]) -> None:
        with pytest.raises(FileNotFoundError), Run(tmp_path, config):
            (tmp_path / "absent").read_text()
