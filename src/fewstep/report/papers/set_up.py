"""What differs between a paper's set-up and that of runs, as the runs' own records say it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fewstep.report.papers.line import MeasuredLine
from fewstep.report.papers.published import PublishedSetUp
from fewstep.report.printing import listing
from fewstep.report.rows import distinct
from fewstep.report.runs import Config, MeasuredRun

FULL_PRECISION = "32-true"


def set_up_differences(line: MeasuredLine, published: PublishedSetUp) -> list[str]:
    """Training, searching, judging and device of a line's runs, as far as they are not the published ones.

    The device is always told, because no paper tells its own.
    """
    run = line.runs[0]  # of equal set-up, all of them
    return [
        *_training(run.training, published),
        *_tuning(run.tuning),
        *_searching(line, run, published),
        *_judging(line, run, published),
        *_precision(run),
        f"on {listing(distinct(run.device for run in line.runs))}",
    ]


def _training(training: Config, published: PublishedSetUp) -> Iterator[str]:
    pretrain, path = training["pretrain"], training["model"].get("path")
    trained = f"{pretrain['iterations']:,} iterations of {pretrain['batch_size']} images"
    if path is None:
        yield f"trained here for {trained}"
    elif pretrain["iterations"]:
        yield f"{Path(str(path)).name}, trained on for {trained}"
    elif Path(str(path)).name not in published.weights:
        yield f"weights of {Path(str(path)).name}"


def _tuning(tuning: Config | None) -> Iterator[str]:
    if tuning is not None and "finetune" in tuning:
        settings = tuning["finetune"]
        yield f"tuned for at most {settings['iterations']:,} iterations of {settings['batch_size']} images"


def _searching(line: MeasuredLine, run: MeasuredRun, published: PublishedSetUp) -> Iterator[str]:
    """Of what depends on training images: a searched schedule, a variance that is fitted to them."""
    search = run.search(line.kind.variance)
    searched = search is not None and search.config["schedule_optimizer"].get("objective")
    if not searched and line.kind.variance != "optimal":
        return
    statistics = run.config["statistics"]
    used, held_out = statistics["images"], run.training["dataset"].get("validation") or 0
    whole = f"all but {held_out:,}" if held_out > 1 else "all"
    if used != published.searched_on or (used is None and held_out > 1):
        images = whole if used is None else f"{used:,}" if isinstance(used, int) else "as few as will do of the"
        yield f"statistics of {images} training images"
    if statistics.get("timesteps", "all") != "all":
        yield "statistics at few timesteps"
    if statistics.get("noise", "common") != "common":
        yield "fresh noise at every timestep"
    decoder = searched.get("decoder") if isinstance(searched, dict) else None
    if line.kind.decoder is not None and decoder not in (None, line.kind.decoder):
        yield f"searched with the {decoder} decoder"


def _judging(line: MeasuredLine, run: MeasuredRun, published: PublishedSetUp) -> Iterator[str]:
    samples = line.rows[0].solver is not None
    for n in _each(row.n_images for row in line.rows):
        if n != published.judged_on:
            yield f"{n:,} samples" if samples else f"{n:,} test images"
    for split in distinct(row.split for row in line.rows):
        if samples and split != "train":
            yield f"against the {split} split"
        elif not samples and split != "test":
            yield f"judged on the {split} split"
    for kind, seeds in (
        ("sampling", _each(row.sample_seed for row in line.rows)),
        ("training", _each(row.train_seed for row in line.rows)),
    ):
        if len(seeds) > 1:
            yield f"mean of {len(seeds)} {kind} seeds"


def _each(numbers: Any) -> Sequence[int]:
    return sorted({number for number in numbers if number is not None})


def _precision(run: MeasuredRun) -> Iterator[str]:
    precision = (run.config.get("trainer") or {}).get("precision", FULL_PRECISION)
    if precision != FULL_PRECISION:
        yield f"the network in {precision}"
