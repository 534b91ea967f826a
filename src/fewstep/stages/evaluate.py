"""Stage evaluate: bits/dim and Fréchet distance of schedules, one row of `results.csv` per number."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from fewstep.artefacts.fine_steps import load_fine_step_outputs
from fewstep.artefacts.precision import PrecisionFiles
from fewstep.artefacts.statistics import load_statistics
from fewstep.calls import Calls
from fewstep.data.base import Dataset
from fewstep.denoiser import Denoiser
from fewstep.files import write_atomically
from fewstep.judging.files import JudgingFiles
from fewstep.judging.frechet import feature_rows, floor_rows, sample_rows
from fewstep.judging.health import wiener_row
from fewstep.judging.likelihood import Likelihood
from fewstep.judging.precision import precision_row
from fewstep.judging.settings import Evaluation, Judge
from fewstep.judging.steps_within import steps_within_rows
from fewstep.modules.sampling import SampledBlocks
from fewstep.modules.sharing import predict_rows
from fewstep.results import Result, write_results
from fewstep.run import Run
from fewstep.sampling import sampling_calls, to_grey_levels
from fewstep.schedule import Schedule
from fewstep.solvers.base import Solver, device_of, solver_calls
from fewstep.statistics.denoising_error import DenoisingError
from fewstep.statistics.interpolation import interpolated
from fewstep.weights import MODEL, WEIGHTS, load_model

NOTHING_UNTUNED: Mapping[str, JudgingFiles] = MappingProxyType({})


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a model and the schedules of one schedule optimizer.

    Attributes:
        weights: the folder of the model.
        schedule_files: variance kind → K → schedule file to be judged under it.
        sampled_variance: the variance kind whose schedules are sampled from.
        depends_on_variance: whether the schedules of two variance kinds differ.
        labels: what the rows of results are of (schedule_optimizer, dataset, process, seeds, finetuned).
        untuned_schedules: K → schedule file of the model before it was tuned, where that is another.
    """

    weights: Path
    schedule_files: Mapping[str, Mapping[int, Path]]
    sampled_variance: str
    depends_on_variance: bool
    labels: Mapping[str, Any]
    untuned_schedules: Mapping[int, Path] = field(default_factory=dict)


def evaluate(
    folder: Path,
    config: Mapping[str, Any],
    subject: Subject,
    judge: Judge,
    solver_statistics: Mapping[str, Path],
    judging_statistics: Mapping[str, JudgingFiles],
    seed: int,
    untuned_statistics: Mapping[str, JudgingFiles] = NOTHING_UNTUNED,
    fine_step_outputs: Path | None = None,
) -> None:
    """Measure one subject; writes `results.csv` and the first samples of every sampled schedule.

    Args:
        folder: the run's folder.
        config: what decides its numbers.
        subject: what is measured.
        judge: what it is measured with.
        solver_statistics: kind → statistics that some solver needs, of the split behind the search.
        judging_statistics: decoder → the files that it needs, of the split that judges.
        seed: recorded.
        untuned_statistics: the same of the model before it was tuned, where it was: told is the change in
            bits/dim too, paired over images.
        fine_step_outputs: what many steps of the untuned model make of the first seed's first noises; samples of
            solvers that add no noise are compared with it. None for no comparison.
    """
    inputs = {
        "weights": subject.weights / WEIGHTS,
        "model": subject.weights / MODEL,
        **{f"{kind} of solvers": path for kind, path in solver_statistics.items()},
        **_inputs("judging statistics", judging_statistics),
        **_inputs("untuned statistics", untuned_statistics),
    }
    if fine_step_outputs is not None:
        inputs["fine-step outputs"] = fine_step_outputs
    for variance, files in subject.schedule_files.items():
        inputs |= {f"schedule of {K} steps, {variance} variance": path for K, path in files.items()}
    inputs |= {f"untuned schedule of {K} steps": path for K, path in subject.untuned_schedules.items()}
    with Run(folder, config, inputs) as run:
        if run.complete:
            return
        denoiser = load_model(subject.weights)
        judged = _loaded(judging_statistics)
        rows = _likelihood_part(subject, judged) + _change_part(subject, judged, _loaded(untuned_statistics))
        statistics = {kind: load_statistics(kind)(path) for kind, path in solver_statistics.items()}
        fine_images = None if fine_step_outputs is None else load_fine_step_outputs(fine_step_outputs)
        for name, solver in judge.solvers.items():
            solver.fit(statistics)
            comparable = None if solver.adds_noise else fine_images
            rows += _sampling_part(folder, subject, judge, denoiser, name, comparable)
        write_results(folder / "results.csv", rows)
        run.finish(network_calls=denoiser.evaluations, device=str(device_of(denoiser)), seed=seed)


def _inputs(name: str, statistics: Mapping[str, JudgingFiles]) -> dict[str, Path]:
    """The files of all decoders by what a run calls them."""
    named = (files.inputs(f"{name}, {decoder}") for decoder, files in statistics.items())
    return {key: path for inputs in named for key, path in inputs.items()}


def _loaded(statistics: Mapping[str, JudgingFiles]) -> dict[str, DenoisingError]:
    """Decoder → its statistics."""
    return {decoder: files.load(decoder) for decoder, files in statistics.items()}


def _likelihood_part(subject: Subject, judged: Mapping[str, DenoisingError]) -> list[Result]:
    rows = []
    for number, (variance, files) in enumerate(subject.schedule_files.items()):
        for path in files.values():
            schedule = Schedule.load(path)
            rows += [
                Likelihood(variance, decoder, subject.labels).row(statistics, schedule)
                for decoder, statistics in judged.items()
            ]
            rows += [
                Likelihood(variance, decoder, subject.labels).row_above_full_grid(statistics, schedule)
                for decoder, statistics in judged.items()
                if len(statistics.indices) == schedule.process.T
            ]
            if subject.depends_on_variance:
                rows += _node_rows(schedule, variance, subject.labels)
            elif number == 0:
                rows += _node_rows(schedule, None, subject.labels)
    return rows


def _change_part(
    subject: Subject, judged: Mapping[str, DenoisingError], untuned: Mapping[str, DenoisingError]
) -> list[Result]:
    return [
        Likelihood(variance, decoder, subject.labels).row_of_change(
            judged[decoder], before, Schedule.load(path), Schedule.load(subject.untuned_schedules.get(K, path))
        )
        for decoder, before in untuned.items()
        for variance, files in subject.schedule_files.items()
        for K, path in files.items()
    ]


def _node_rows(schedule: Schedule, variance: str | None, labels: Mapping[str, Any]) -> list[Result]:
    """Where a schedule puts its nodes; variance and solver are stated only where it was made for one."""
    log_snrs = schedule.process.log_snr(schedule.times[1:]).tolist()
    of = dict(labels) | {
        "steps": schedule.steps,
        "variance": variance,
        "solver": schedule.provenance.get("solver"),
    }
    return [Result(**of, metric="node_log_snr", value=log_snr) for log_snr in log_snrs]


def _sampling_part(
    folder: Path, subject: Subject, judge: Judge, denoiser: Denoiser, solver: str, fine_images: Tensor | None
) -> list[Result]:
    rows = []
    files = subject.schedule_files[subject.sampled_variance]
    for K in judge.settings.steps_of(solver, files):
        schedule = Schedule.load(files[K])
        for number, seed in enumerate(judge.settings.sample_seeds):
            compared = fine_images if number == 0 else None
            rows += sample_rows(judge, denoiser, solver, schedule, seed, subject.labels, compared)
        pictured = judge.settings.pictured
        seed = judge.settings.sample_seeds[0]
        module = SampledBlocks(denoiser, judge.solvers[solver], schedule, pictured, seed, judge.shape)
        images = torch.cat(predict_rows(judge.trainer("pictured samples"), module, module.blocks))
        _save_samples(samples_file(folder, solver, K), to_grey_levels(images, judge.levels))
    return rows


def evaluation_calls(settings: Evaluation, solvers: Mapping[str, Solver], steps: Collection[int]) -> Calls:
    """The network calls of `evaluate`, for the K's of the schedules that are sampled from."""
    calls = Calls()
    for name, solver in solvers.items():
        for K in settings.steps_of(name, steps):
            per_image = solver_calls(solver, K)
            judged = sampling_calls(settings.samples, len(settings.sample_seeds) * per_image.total)
            pictured = sampling_calls(settings.pictured, per_image.total)
            calls += replace(judged + pictured, mark=per_image.mark)
    return calls


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
    judging_statistics: Mapping[str, JudgingFiles],
    labels: Mapping[str, Any],
    seed: int,
    precision: PrecisionFiles | None = None,
) -> None:
    """Write the `results.csv` of the full grid, of real images against real images, and of the network's health.

    That is e(t) over Wiener's and, with `precision`, what the run's precision changes.
    """
    inputs = {
        "fitted statistics": fitted_statistics,
        **_inputs("judging statistics", judging_statistics),
    }
    if precision is not None:
        inputs |= {"in the run's precision": precision.lower, "in float32": precision.full}
    with Run(folder, config, inputs) as run:
        if run.complete:
            return
        fitted, judged = DenoisingError.load(fitted_statistics), _loaded(judging_statistics)
        process, variances = fitted.process, judge.settings.variances
        everything = Schedule(process.grid, process)
        full = dict(labels) | {"schedule_optimizer": "full", "finetuned": False}
        rows = [
            Likelihood(variance, decoder, full).row(statistics, everything)
            for decoder, statistics in judged.items()
            for variance in variances
        ]
        if precision is not None:
            rows.append(precision_row(precision, variances[0], labels))
        for variance in variances:
            rows += steps_within_rows(interpolated(fitted), variance, labels)
        rows += [
            *floor_rows(judge, dataset, labels),
            wiener_row(dataset, fitted, labels),
            *feature_rows(judge.features, labels),
        ]
        write_results(folder / "results.csv", rows)
        run.finish(network_calls=0, device="cpu", seed=seed)
