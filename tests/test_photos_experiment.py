"""`experiment=photos_small`, and with it `photos`, from training to report, on smaller windows and networks."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from fewstep.__main__ import main
from fewstep.data import photos
from fewstep.results import read_results

TINY = [
    *("process.T=24", "steps=[2,4]", "threads=1"),
    *("model.backbone.image_size=8", "model.backbone.attention_resolutions=[2]"),
    *("model.backbone.model_channels=8", "model.backbone.num_groups=2"),
    *("pretrain.iterations=4", "pretrain.batch_size=16", "pretrain.validate_every=4"),
    *("finetune.steps=4", "finetune.iterations=2", "finetune.batch_size=16", "finetune.validate_every=2"),
    *("statistics.images=8", "evaluation.images=8", "evaluation.samples=20", "evaluation.sample_seeds=[0]"),
    *("evaluation.pictured=2", "features.epochs=1"),
]
OPTIMIZERS = {
    *("even", "quadratic", "log_snr", "karras", "tangent"),
    *("elbo_dp", "mse_reweighted_dp", "discretization_dp", "gaussian_transport_dp"),
}


@pytest.fixture
def few_small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 8×8, 32 pixels apart: a covariance of 32×32 windows takes as long as all else here together."""
    monkeypatch.setattr(photos, "SIZE", 8)
    monkeypatch.setattr(photos, "STRIDE", 32)
    monkeypatch.setattr(photos.Photos, "shape", (3, 8, 8))


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.mark.usefixtures("few_small_windows", "restored_logging")
def test_every_schedule_is_found_tuned_and_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fewstep", "experiment=photos_small", *TINY, f"outputs={tmp_path}"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        main()
    (report,) = (tmp_path / "photos_small" / "report").iterdir()
    results = read_results(report / "results.csv")
    assert {*results.dataset} == {"photos"}
    for metric in ("bits_per_dim", "fid_photos"):
        rows = results[results.metric == metric]
        tuned = rows.finetuned.fillna(False).astype(bool)
        assert {*rows[~tuned].schedule_optimizer} >= OPTIMIZERS
        assert {*rows[tuned].schedule_optimizer} == {"elbo_dp"}
    assert len(results[results.metric == "wiener_ratio_max"]) == 1
