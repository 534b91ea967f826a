"""A full disk, files that may not grow, a read-only folder: one sentence, and the same outcome afterwards."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from soak.command import Attempt, difference, outcome
from soak.table import Part

SHARES = (0.004, 0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)  # of an unbroken run's bytes on its disk
LARGEST_FILES = (1 << 10, 20 << 10, 150 << 10, 700 << 10)  # bytes; a checkpoint is of some 900 kB
READ_ONLY_AFTER = (0, 1, 12, 24)  # marks after which a run is killed before its disk turns read-only


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of its own in memory, `size` bytes large."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(folder: Path, options: str) -> None:
    """Change what a mounted disk is."""
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def may_mount(root: Path) -> bool:
    """Whether this user may mount a small disk."""
    try:
        with small_disk(root / "trial", 1 << 20):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def disk(root: Path, shorter: bool) -> list[Part]:
    """Three parts; `shorter` takes fewer sizes."""
    reference = root / "unbroken"
    failed = Attempt(reference).end()
    if failed:
        raise AssertionError(f"the unbroken run {failed}")
    expected = outcome(reference)
    bytes_of_run = sum(path.stat().st_size for path in reference.rglob("*") if path.is_file())
    sizes = [int(share * bytes_of_run) for share in (SHARES[1::3] if shorter else SHARES)]
    limits = LARGEST_FILES[2:] if shorter else LARGEST_FILES
    moments = READ_ONLY_AFTER[1:2] if shorter else READ_ONLY_AFTER
    parts = []
    names = ("disk full, then space", "folder read-only, then not", "files may not grow, then may")
    if may_mount(root):
        parts.append(_part(names[0], sizes, lambda size: _full(root / f"disk{size}", size, expected)))
        parts.append(_part(names[1], moments, lambda marks: _read_only(root / f"marks{marks}", marks, expected)))
    else:
        reason = "this user may not mount a disk in memory; run as root, or under `unshare -rm`"
        parts += [Part(name, "", 0, skipped=reason) for name in names[:2]]
    parts.append(_part(names[2], limits, lambda limit: _limited(root / f"limit{limit}", limit, expected)))
    return parts


def _part(name: str, cases: Sequence[int], check: Callable[[int], str]) -> Part:
    wrong, stopped = [], []
    for case in cases:
        try:
            stopped.append(check(case))
            print(f"  {name}, {case}: {stopped[-1]}", flush=True)
        except AssertionError as error:
            wrong.append(f"{case}: {error}")
    return Part(name, "; ".join(dict.fromkeys(stopped)), len(stopped) + len(wrong), wrong)


def _resumed(outputs: Path, expected: dict[str, str]) -> None:
    failed = Attempt(outputs).end() or difference(expected, outcome(outputs))
    if failed:
        raise AssertionError(f"started again it {failed}")


def _full(folder: Path, size: int, expected: dict[str, str]) -> str:
    with small_disk(folder, size):
        attempt = Attempt(folder / "outputs")
        _check_sentence(attempt.error(), "No space left on device")
        remount(folder, "size=256m")
        _resumed(folder / "outputs", expected)
    return f"stopped in {attempt.stage}"


def _read_only(folder: Path, after: int, expected: dict[str, str]) -> str:
    with small_disk(folder, 256 << 20):
        if after:
            first = Attempt(folder / "outputs")
            assert first.reaches(after, 0.1)
            assert first.kill()
        remount(folder, "ro")
        _check_sentence(Attempt(folder / "outputs").error(), "Read-only file system")
        remount(folder, "rw")
        _resumed(folder / "outputs", expected)
    return f"after {after} marks"


def _limited(folder: Path, limit: int, expected: dict[str, str]) -> str:
    folder.mkdir(parents=True)
    attempt = Attempt(folder / "outputs", largest_file=limit)
    _check_sentence(attempt.error(), "File too large")
    _resumed(folder / "outputs", expected)
    return f"stopped in {attempt.stage}"


def _check_sentence(sentence: str, reason: str) -> None:
    if reason not in sentence:
        raise AssertionError(f"the sentence {sentence!r} does not say {reason!r}")
