"""Two runs in one folder at once: they share the work, refuse each other, or outlive each other."""

from collections.abc import Callable
from pathlib import Path

from soak.command import Attempt, difference, outcome
from soak.table import Part

WAITS = "another process"


def together(root: Path) -> list[Part]:
    """Three ways of meeting."""
    failed = Attempt(root / "unbroken").end()
    if failed:
        raise AssertionError(f"the unbroken run {failed}")
    expected = outcome(root / "unbroken")
    return [
        _part("two equal runs at once", lambda: _equal(root / "equal", expected)),
        _part("two configurations, one run name", lambda: _strangers(root / "strangers")),
        _part("one is killed while the other waits", lambda: _widowed(root / "widowed", expected)),
    ]


def _part(name: str, check: Callable[[], str]) -> Part:
    try:
        return Part(name, check(), 1)
    except AssertionError as error:
        return Part(name, "", 1, [str(error)])


def _check(failed: str | None) -> None:
    if failed:
        raise AssertionError(failed)


def _equal(outputs: Path, expected: dict[str, str]) -> str:
    pair = [Attempt(outputs), Attempt(outputs)]
    for attempt in pair:
        _check(attempt.end())
    _check(difference(expected, outcome(outputs)))
    waited = sum(WAITS in line for attempt in pair for _, line in attempt.lines)
    return f"both succeed, {waited} times one says that it waits"


def _strangers(outputs: Path) -> str:
    pair = [Attempt(outputs, ["run_name=mine", f"pretrain.learning_rate={rate}"]) for rate in (1e-3, 2e-3)]
    failures = [attempt.end() for attempt in pair]
    if sum(failure is None for failure in failures) != 1:
        raise AssertionError(f"exactly one should have succeeded: {failures}")
    refused = pair[1] if failures[0] is None else pair[0]
    sentence = refused.error()
    if "pretrain.learning_rate" not in sentence:
        raise AssertionError(f"the sentence does not name the difference: {sentence}")
    return "one succeeds, the other is told in what they differ"


def _widowed(outputs: Path, expected: dict[str, str]) -> str:
    first = Attempt(outputs)
    if not first.reaches(1, 0.2):
        raise AssertionError("the first run ended at once")
    second = Attempt(outputs)
    first.process.send_signal(19)  # SIGSTOP: it holds its lock for as long as it takes
    if not second.says(WAITS, 60):
        raise AssertionError("the second run does not say that it waits")
    first.kill()
    _check(second.end())
    _check(difference(expected, outcome(outputs)))
    return "the other says that it waits, then goes on to the same outcome"
