"""The console entry inside this process, at a tiny size."""

import io
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from fewstep.__main__ import main


@dataclass(frozen=True)
class Outcome:
    code: object
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What stands behind `fewstep: ` on the only line of stderr."""
        assert self.code not in (0, None), "the program ended as if all were well"
        assert self.out == ""
        (line,) = self.err.splitlines()
        assert line.startswith("fewstep: ")
        return line.removeprefix("fewstep: ")


@contextmanager
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Settings that make every stage a matter of a moment."""
    return [
        "process.T=40",
        "steps=[2,4]",
        "finetune.steps=4",
        "schedule_optimizer=[even,elbo_dp]",
        "model.backbone.model_channels=8",
        "model.backbone.num_groups=2",
        "model.backbone.channel_mult=[1]",
        "model.backbone.attention_resolutions=[]",
        "pretrain.iterations=4",
        "pretrain.batch_size=16",
        "pretrain.validate_every=4",
        "statistics.images=8",
        "evaluation.images=8",
        "evaluation.samples=20",
        "evaluation.sample_steps={ddim:[4],ancestral:[4]}",
        "evaluation.pictured=2",
        "features.epochs=1",
        "features.width=4",
        "features.num_features=4",
    ]


@pytest.fixture(scope="session")
def fewstep() -> Callable[..., Outcome]:
    """(words, …) → what the command printed and its exit code."""

    def run(*words: str, full_error: str = "") -> Outcome:
        """The console entry in this process, its exit code included."""
        out, err, code = io.StringIO(), io.StringIO(), 0
        with restored_logging(), pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["fewstep", *words])
            patch.setenv("HYDRA_FULL_ERROR", full_error)
            try:
                main()
            except SystemExit as end:
                # As the interpreter does it.
                code = end.code
                if isinstance(code, str):
                    print(code, file=err)
                    code = 1
        return Outcome(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def written() -> Callable[[Path], list[str]]:
    """(outputs) → all files but Hydra's notes on the job."""

    def relative(outputs: Path) -> list[str]:
        files = (path for path in outputs.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(outputs)) for path in files if "jobs" not in path.parts)

    return relative
