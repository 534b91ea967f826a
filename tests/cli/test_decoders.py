"""Bits/dim under both arithmetics of improved-diffusion's convention, through every stage to the report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewstep.results import read_results

DECODERS = ["improved_diffusion", "improved_diffusion_tanh"]
VARIANCES = ["posterior", "beta", "optimal", "learned"]


@pytest.mark.parametrize("timesteps", ["all", "auto"])
def test_every_schedule_is_judged_by_both(
    timesteps: str, fewstep: Callable[..., Any], tiny: list[str], tmp_path: Path
) -> None:
    """With class labels and lower precision; the two differ, but by little."""
    words = [
        *("model=unet_digits_learned", "loss@pretrain.loss=hybrid", "+model.backbone.num_classes=10"),
        *("trainer.precision=bf16-mixed", f"statistics.timesteps={timesteps}", "statistics.regret=1"),
        *("finetune.schedule_optimizer=even", "finetune.iterations=2", "finetune.validate_every=2"),
        *("solver=ddim", "evaluation.sample_seeds=[0]"),
        f"evaluation.variances=[{','.join(VARIANCES)}]",
        f"evaluation.decoders=[{','.join(DECODERS)}]",
    ]
    outcome = fewstep(*tiny, *words, f"outputs={tmp_path}")
    assert outcome.code == 0, outcome.err
    (folder,) = (tmp_path / "digits" / "report").iterdir()
    rows = read_results(folder / "results.csv")
    of = ["schedule_optimizer", "steps", "variance", "finetuned"]
    for metric in ("bits_per_dim", "bits_per_dim_change"):
        bits = rows[rows.metric == metric].set_index(of)
        exact, tanh = (bits[bits.decoder == decoder] for decoder in DECODERS)
        assert len(exact) > 0
        assert {*tanh.index} == {*exact.index}
        assert (tanh.standard_error > 0).all()
        apart = (tanh.value - exact.value.loc[tanh.index]).abs()
        assert 0 < apart.max() < 0.01
    judged = rows[(rows.metric == "bits_per_dim") & (rows.decoder == DECODERS[1])]
    expected = {"even", "elbo_dp"} | ({"full"} if timesteps == "all" else set())
    assert {*judged.schedule_optimizer} == expected
    page = (folder / "report.html").read_text()
    for variance in VARIANCES:
        assert f"Under {variance} variance the figures in improved-diffusion’s own arithmetic" in page
