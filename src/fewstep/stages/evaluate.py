"""Stage evaluate: bits/dim and Fréchet distance of schedules, one row of `results.csv` per number."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from fewstep.data.base import Dataset
from fewstep.denoiser import Denoiser
from fewstep.files import write_atomically
from fewstep.judging.frechet import floor_row, frechet_row
from fewstep.judging.health import wiener_row
from fewstep.judging.likelihood import likelihood_row
from fewstep.judging.settings import Judge
from fewstep.results import Result, write_results
from fewstep.run import Run
from fewstep.sampling import sample, to_grey_levels
from fewstep.schedule import Schedule
from fewstep.solvers.base import device_of
from fewstep.statistics.denoising_error import KIND, DenoisingError
from fewstep.weights import MODEL, WEIGHTS, load_model


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a model and the schedules of one schedule optimizer.

    Attributes:
        weights: the folder of the model.
        schedule_files: variance kind → K → schedule file to be judged under it.
        sampled_variance: the variance kind whose schedules are sampled from.
        depends_on_variance: whether the schedules of two variance kinds differ.
        labels: what the rows of results are of (schedule_optimizer, dataset, process, seeds, finetuned).
    """

    weights: Path
    schedule_files: Mapping[str, Mapping[int, Path]]
    sampled_variance: str
    depends_on_variance: bool
    labels: Mapping[str, Any]


def evaluate(
    folder: Path,
    config: Mapping[str, Any],
    subject: Subject,
    judge: Judge,
    fitted_statistics: Path,
    judging_statistics: Path,
    seed: int,
) -> None:
    """Measure one subject; writes `results.csv` and the first samples of every sampled schedule.

    Args:
        folder: the run's folder.
        config: what decides its numbers.
        subject: what is measured.
        judge: what it is measured with.
        fitted_statistics: of the split that `optimal` variances are fitted on.
        judging_statistics: of the split that judges.
        seed: recorded.
    """
    inputs = {
        "weights": subject.weights / WEIGHTS,
        "model": subject.weights / MODEL,
        "fitted statistics": fitted_statistics,
        "judging statistics": judging_statistics,
    }
    for variance, files in subject.schedule_files.items():
        inputs |= {f"schedule of {K} steps, {variance} variance": path for K, path in files.items()}
    with Run(folder, config, inputs) as run:
        if run.complete:
            return
        denoiser = load_model(subject.weights)
        rows = _likelihood_part(subject, DenoisingError.load(judging_statistics))
        statistics = {KIND: DenoisingError.load(fitted_statistics)}
        for name, solver in judge.solvers.items():
            solver.fit(statistics)
            rows += _sampling_part(folder, subject, judge, denoiser, name)
        write_results(folder / "results.csv", rows)
        run.finish(network_calls=denoiser.evaluations, device=str(device_of(denoiser)), seed=seed)


def _likelihood_part(subject: Subject, judged: DenoisingError) -> list[Result]:
    rows = []
    for number, (variance, files) in enumerate(subject.schedule_files.items()):
        for path in files.values():
            schedule = Schedule.load(path)
            rows.append(likelihood_row(judged, schedule, variance, subject.labels))
            if subject.depends_on_variance:
                rows += _node_rows(schedule, variance, subject.labels)
            elif number == 0:
                rows += _node_rows(schedule, None, subject.labels)
    return rows


def _node_rows(schedule: Schedule, variance: str | None, labels: Mapping[str, Any]) -> list[Result]:
    """Where a schedule puts its nodes; the variance is stated only where the schedule depends on it."""
    log_snrs = schedule.process.log_snr(schedule.times[1:]).tolist()
    return [
        Result(**labels, metric="node_log_snr", value=log_snr, steps=schedule.steps, variance=variance)
        for log_snr in log_snrs
    ]


def _sampling_part(folder: Path, subject: Subject, judge: Judge, denoiser: Denoiser, solver: str) -> list[Result]:
    rows = []
    wanted = judge.settings.sample_steps.get(solver)
    for K, path in subject.schedule_files[subject.sampled_variance].items():
        if wanted is not None and K not in wanted:
            continue
        schedule = Schedule.load(path)
        for seed in judge.settings.sample_seeds:
            rows.append(frechet_row(judge, denoiser, solver, schedule, seed, subject.labels))
        indices = range(judge.settings.pictured)
        seed = judge.settings.sample_seeds[0]
        images = sample(denoiser, judge.solvers[solver], schedule, indices, seed, judge.shape)
        _save_samples(samples_file(folder, solver, K), to_grey_levels(images, judge.levels))
    return rows


def _save_samples(path: Path, images: Tensor) -> None:
    write_atomically(path, lambda temporary: save_file({"images": images}, temporary))


def samples_file(folder: Path, solver: str, K: int) -> Path:
    """Where a run keeps the first samples of a schedule: `images` float64 [n, C, H, W] in a safetensors file."""
    return folder / "samples" / f"{solver}_k{K:03d}.safetensors"


def evaluate_reference(
    folder: Path,
    config: Mapping[str, Any],
    judge: Judge,
    dataset: Dataset,
    fitted_statistics: Path,
    judging_statistics: Path,
    labels: Mapping[str, Any],
    seed: int,
) -> None:
    """Write the `results.csv` of the full grid, of real images against real images, and of e(t) over Wiener's."""
    inputs = {"fitted statistics": fitted_statistics, "judging statistics": judging_statistics}
    with Run(folder, config, inputs) as run:
        if run.complete:
            return
        fitted, judged = DenoisingError.load(fitted_statistics), DenoisingError.load(judging_statistics)
        process = judged.process
        everything = Schedule(process.grid, process)
        full = dict(labels) | {"schedule_optimizer": "full", "finetuned": False}
        accuracy, n_test = judge.features.accuracy, judge.features.n_test
        rows = [likelihood_row(judged, everything, variance, full) for variance in judge.settings.variances]
        rows += [
            floor_row(dataset, judge.features, judge.metric, labels),
            wiener_row(dataset, fitted, labels),
            Result(
                dataset=labels["dataset"],
                metric="feature_accuracy",
                value=accuracy,
                standard_error=(judge.features.accuracy * (1 - judge.features.accuracy) / judge.features.n_test)
                ** 0.5,
                n_images=n_test,
                split="test",
            ),
        ]
        write_results(folder / "results.csv", rows)
        run.finish(network_calls=0, device="cpu", seed=seed)
