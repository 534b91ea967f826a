"""A run in lower precision, to its report: what that did to bits/dim is stated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewstep.results import read_results


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_the_report_states_what_the_precision_changes(
    precision: str, fewstep: Callable[..., Any], tiny: list[str], tmp_path: Path
) -> None:
    words = [
        *("finetune.schedule_optimizer=elbo_dp", "finetune.iterations=2", "finetune.batch_size=8"),
        *("finetune.validate_every=2", "solver=ddim", "evaluation.sample_seeds=[0]"),
        *("schedule_optimizer=elbo_dp", "evaluation.variances=[posterior]"),
    ]
    outcome = fewstep(*tiny, *words, f"trainer.precision={precision}", f"outputs={tmp_path}")
    assert outcome.code == 0, outcome.err
    (folder,) = (tmp_path / "digits" / "report").iterdir()
    rows = read_results(folder / "results.csv")
    (row,) = rows[rows.metric == f"bits_per_dim_change_in_{precision}"].itertuples()
    assert row.value != 0
    assert (row.n_images, row.split, row.variance) == (32, "train", "posterior")
    page = (folder / "report.html").read_text()
    assert f"The network ran in {precision}: on 32 images at" in page
