"""A sweep through the console entry: each job has a folder of its own and what jobs share is computed once."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from fewstep.results import read_results


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, tiny: list[str], fewstep: Callable) -> Path:
    """Two schedule optimizers × two training seeds: the experiment's folder."""
    outputs = tmp_path_factory.mktemp("sweep")
    words = [word for word in tiny if not word.startswith(("finetune", "schedule_optimizer"))]
    small = [
        "finetune=none",
        "evaluation.variances=[optimal]",
        "solver=ddim",
        "evaluation.sample_seeds=[0]",
        f"outputs={outputs}",
    ]
    outcome = fewstep("-m", "schedule_optimizer=even,elbo_dp", "seed=0,1", *words, *small)
    assert outcome.code in (0, None), outcome.err
    return outputs / "digits"


def test_a_sweep_has_a_folder_and_a_report_per_job_and_computes_shared_inputs_once(sweep: Path) -> None:
    jobs = [path for path in (sweep / "jobs").iterdir() if path.is_dir()]
    assert len(jobs) == 4
    assert all((job / ".hydra" / "overrides.yaml").is_file() for job in jobs)
    reports = [read_results(path) for path in sweep.glob("report/*/results.csv")]
    found = [
        (*{*rows.schedule_optimizer} & {"even", "elbo_dp"}, rows.train_seed.max())
        for rows in (rows[rows.metric == "bits_per_dim"] for rows in reports)
    ]
    assert sorted(found) == [("elbo_dp", 0), ("elbo_dp", 1), ("even", 0), ("even", 1)]

    def runs(pattern: str) -> int:
        return len(list(sweep.glob(f"{pattern}/run.json")))

    assert runs("pretrain/*") == 2
    assert runs("features/*") == 1
    assert (runs("statistics/*-train-*"), runs("statistics/*-test-*")) == (2, 2)


def test_seeds_have_weights_of_their_own(sweep: Path) -> None:
    digests = {
        path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sweep.glob("pretrain/*/weights.safetensors")
    }
    assert len({*digests.values()}) == 2
