"""What a lower precision does to bits/dim: the paired difference, and when it is warned of."""

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewstep.artefacts.precision import PrecisionFiles
from fewstep.denoiser import Denoiser
from fewstep.judging.precision import precision_row
from fewstep.process import Process
from fewstep.report.precision_findings import precision_findings
from fewstep.results import Result

PROCESS = Process.cosine(20, 1 / 16)
INDICES = [1, 4, 11, 20]


@pytest.fixture
def row(
    tmp_path: Path, perfect_denoiser: Callable[..., Denoiser], measure: Callable[..., object], grey_images
) -> Callable[[float], Result]:
    """(δ) → the row where every image errs by δ more at one timestep, and nowhere else."""
    images: Tensor = grey_images(5)
    full = measure(images, perfect_denoiser(PROCESS, 0.3), indices=INDICES)

    def make(more: float) -> Result:
        error = full.error.clone()
        error[2] += more * torch.tensor([0.5, 1.5, 1, 1, 1], dtype=torch.float64)
        files = PrecisionFiles("bf16-mixed", tmp_path / "lower", tmp_path / "full")
        replace(full, error=error).save(files.lower)
        full.save(files.full)
        return precision_row(files, "posterior", {"dataset": "grey", "train_seed": 0})

    return make


@pytest.mark.parametrize("sign", [1, -1])
def test_the_difference_is_that_of_the_bound(sign: int, row: Callable[[float], Result]) -> None:
    """½ (SNR(s) − SNR(t)) δ nats for the step (s, t) = (4, 11), over D ln 2."""
    found = row(sign * 0.02)
    snr = torch.exp(PROCESS.log_snr(PROCESS.grid[[4, 11]]))
    bits = sign * 0.02 * 0.5 * (snr[0] - snr[1]).item() / (4 * math.log(2))
    assert found.value == pytest.approx(bits, rel=1e-9)
    spread = torch.tensor([0.5, 1.5, 1, 1, 1], dtype=torch.float64).std().item() / math.sqrt(5)
    assert found.standard_error == pytest.approx(abs(bits) * spread, rel=1e-6)
    assert (found.metric, found.n_images, found.steps) == ("bits_per_dim_change_in_bf16-mixed", 5, 4)


def test_a_large_difference_is_warned_of_and_told(
    row: Callable[[float], Result], caplog: pytest.LogCaptureFixture
) -> None:
    per_error = row(1e-6).value / 1e-6
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        small, large = row(0.009 / per_error), row(-0.011 / per_error)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "In bf16-mixed the bits/dim differ by -0.0110" in caplog.text
    assert precision_findings([small])[0].endswith("the check allows 0.01 and holds.")
    (sentence,) = precision_findings([large])
    assert "differ by −0.011" in sentence
    assert "fails" in sentence
    assert precision_findings([]) == []
