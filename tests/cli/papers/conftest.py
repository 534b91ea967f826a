"""The papers' experiments at a size of seconds: a run from files to report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewstep.results import read_results
from soak.official_files import imagenet_npz

SMALL = [
    "evaluation.images=2",
    "evaluation.samples=3",
    "evaluation.pictured=2",
    "features=classifier",  # 2,048 of Inception's features take more than some samples, and long
    "features.epochs=1",
    "features.width=4",
    "features.num_features=4",
    "features.batch_size=8",
    "trainer.accelerator=cpu",
]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples in batches of 4 rather than 128, and no eigenvectors of CIFAR-10's 3,072 dimensions."""
    monkeypatch.setattr("fewstep.sampling.ROWS", 4)
    monkeypatch.setattr("fewstep.judging.health.MOST_DIMENSIONS", 1024)


@pytest.fixture(scope="session")
def imagenet64(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imagenet")
    imagenet_npz(folder, 2, compressed=False)
    return folder


@pytest.fixture
def results(fewstep: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """(experiment, checkpoint, data, overrides) → the rows of its report, which must be whole."""

    def run(name: str, model: Path, data: Path, *overrides: str) -> Any:
        words = [f"experiment={name}", f"model.path={model}", f"dataset.path={data}", *SMALL, *overrides]
        outcome = fewstep(*words, f"outputs={tmp_path / 'outputs'}")
        assert outcome.code in (0, None), outcome.err
        (report,) = (tmp_path / "outputs" / name / "report").iterdir()
        assert (report / "report.html").is_file()
        rows = read_results(report / "results.csv")
        assert rows.value.notna().all()
        return rows

    return run
