"""A sweep through the console entry: each job has a folder of its own and what jobs share is computed once."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewstep.results import read_results
from fewstep.run import Run


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


def test_24_jobs_cost_what_their_distinct_parts_do(
    tmp_path: Path, tiny: list[str], fewstep: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against one run per seed with lists of everything; none of the jobs computes what another has."""
    spent: list[int] = []
    finish = Run.finish

    def counted(run: Run, *, network_calls: int, **rest: Any) -> None:
        spent.append(network_calls)
        finish(run, network_calls=network_calls, **rest)

    monkeypatch.setattr(Run, "finish", counted)
    varied = ("finetune", "schedule_optimizer", "steps", "evaluation.samples")
    words = [word for word in tiny if not word.startswith(varied)]
    small = ["-m", "stage=evaluate", "finetune=none", "evaluation.samples=4", "evaluation.sample_seeds=[0]"]
    small += [
        "evaluation.variances=[optimal]",
        "seed=0,1,2",
        "evaluation.sample_steps={ddim:[2,4],ancestral:[2,4]}",
        *words,
    ]
    lists = ["schedule_optimizer=[even,elbo_dp]", "steps=[2,4]", "solver=[ddim,ancestral]"]
    assert fewstep(*small, *lists, f"outputs={tmp_path / 'lists'}").code == 0
    distinct = sum(spent)
    spent.clear()
    jobs = ["schedule_optimizer=even,elbo_dp", "steps=[2],[4]", "solver=ddim,ancestral"]
    assert fewstep(*small, *jobs, f"outputs={tmp_path / 'jobs'}").code == 0
    records = [json.loads(path.read_text()) for path in (tmp_path / "jobs").rglob("run.json")]
    assert sum(record["network_calls"] for record in records) == sum(spent)
    assert len([*(tmp_path / "jobs" / "digits" / "jobs").glob("*/.hydra")]) == 24
    assert sum(spent) == distinct
