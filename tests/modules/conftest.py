"""A program on one device and on two."""

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def on_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Any]]:
    """(program) → what it found on one device, on the first of two, and on the second.

    The program is given the number of devices and a folder, where it writes {devices}-{rank}.json.
    """

    def run(source: str) -> list[Any]:
        program = tmp_path / "program.py"  # a file, because Lightning starts it again for the second device
        program.write_text(source)
        command = [sys.executable, str(program), "2", str(tmp_path)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        monkeypatch.setattr(sys, "argv", [str(program), "1", str(tmp_path)])
        runpy.run_path(str(program))
        return [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1")]

    return run
