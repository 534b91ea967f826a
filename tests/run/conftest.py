"""What tests of runs share: a configuration, and a run with it that has come to its end."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fewstep
from fewstep.files import write_atomically
from fewstep.run import Run


@pytest.fixture(scope="session")
def config() -> dict[str, Any]:
    return {"steps": [4, 8], "model": {"width": 32, "depth": 2}, "seed": 0}


@pytest.fixture(scope="session")
def finish() -> Callable[[Run], None]:
    """Marks a run complete."""

    def make(run: Run) -> None:
        run.finish(network_calls=7, device="cpu", seed=0, facts={"accuracy": 0.5})

    return make


@pytest.fixture(scope="session")
def completed(config: dict[str, Any], finish: Callable[[Run], None]) -> Callable[..., None]:
    """(folder, name=input file, …) → a complete run with one output."""

    def make(folder: Path, **inputs: Path) -> None:
        with Run(folder, config, inputs) as run:
            write_atomically(run.folder / "tables" / "numbers.txt", "1 2 3")
            finish(run)

    return make


# What fewstep imports at once takes seconds, and a run needs none of it.
WITHOUT_NETWORKS = f"""
import sys, types
sys.modules["fewstep"] = types.ModuleType("fewstep")
sys.modules["fewstep"].__path__ = {[*fewstep.__path__]}
"""


@pytest.fixture(scope="session")
def start() -> Callable[..., "subprocess.Popen[str]"]:
    """(script, arguments, …) → a process of its own that runs it."""

    def make(script: str, *arguments: Path) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", WITHOUT_NETWORKS + script, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return make
