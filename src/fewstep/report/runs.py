"""What the complete evaluations in `outputs` have measured, and what each of them is of."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fewstep.errors import UserError
from fewstep.provenance import canonical
from fewstep.record import COMPLETE, read_record
from fewstep.report.rows import every_row
from fewstep.results import Result, read_results

log = logging.getLogger(__name__)

Config = Mapping[str, Any]


@dataclass(frozen=True)
class SearchRun:
    """A search behind an evaluation.

    Attributes:
        config: its configuration.
        network_calls: of the search and of the statistics that it reads, one call being one image at one time.
        seconds: likewise.
    """

    config: Config
    network_calls: int
    seconds: float


@dataclass(frozen=True, eq=False)
class MeasuredRun:
    """A complete evaluation.

    Attributes:
        experiment: whose folder it lies in.
        config: its configuration.
        device: where it was made.
        rows: what it measured; a value that is none is NaN.
        training: the configuration behind the network, before any fine-tuning.
        tuning: that of the fine-tuning; None for a network that is as it was.
        searches: variance kind → the search of the schedules that are judged under it.
    """

    experiment: str
    config: Config
    device: str
    rows: Sequence[Result]
    training: Config
    tuning: Config | None
    searches: Mapping[str, SearchRun]

    def search(self, variance: str | None) -> SearchRun | None:
        """The search of the schedules judged under a variance kind; of any of them where that has none."""
        return self.searches.get(variance or "") or next(iter(self.searches.values()), None)

    @cached_property
    def set_up(self) -> str:
        """All that its numbers depend on but seeds, schedules and solvers; of equal set-ups these alone differ."""
        evaluation, statistics = self.config["evaluation"], self.config["statistics"]
        network = {key: value for key, value in self.training.items() if key != "seed"}
        judged = {key: evaluation.get(key) for key in ("split", "images", "samples")}
        fitted = {key: value for key, value in statistics.items() if key != "batch_size"}
        trainer = self.config.get("trainer")
        return canonical([self.experiment, network, judged, self.config["features"], fitted, trainer])


def measured_runs(outputs: Path, experiments: Sequence[str] | None = None) -> list[MeasuredRun]:
    """The complete evaluations under a folder of outputs, by experiment and name.

    One whose network's own run was removed is left out, as nothing says what it is of.

    Args:
        outputs: holds a folder per experiment.
        experiments: whose runs are taken; None for all.

    Raises:
        UserError: an experiment is not there, or a file of a run is damaged or missing.
    """
    outputs = Path(outputs)
    for name in experiments or ():
        if Path(name).name != name or not (outputs / name).is_dir():
            raise UserError(
                f"report.experiments names {name!r}, but {outputs} holds no such folder; allowed are the "
                "experiments in it, or null for all of them."
            )
    found = []
    for path in sorted(outputs.glob(f"*/evaluate/*/{COMPLETE}")):
        folder = path.parent
        if experiments is None or folder.parents[1].name in experiments:
            found += _read(folder)
    return found


def _read(folder: Path) -> list[MeasuredRun]:
    """The evaluation in a folder; none where the run there measured something else."""
    record, root = read_record(folder), folder.parents[1]
    config = record["config"]
    if "evaluation" not in config:
        return []
    trained = root / "pretrain" / str(config.get("untuned", config["weights"]))
    if not (trained / COMPLETE).exists():
        log.warning("left out    %s, because the run of its network, %s, is not there", folder, trained)
        return []
    tuned = root / "finetune" / str(config["weights"])
    searches = {
        variance: root / "search" / names[0] for variance, names in config.get("schedules", {}).items() if names
    }
    return [
        MeasuredRun(
            experiment=root.name,
            config=config,
            device=record["device"],
            rows=every_row(read_results(folder / "results.csv")),
            training=read_record(trained)["config"],
            tuning=read_record(tuned)["config"] if (tuned / COMPLETE).exists() else None,
            searches={
                variance: _search(path) for variance, path in searches.items() if (path / COMPLETE).exists()
            },
        )
    ]


def _search(folder: Path) -> SearchRun:
    """A search with what it and the statistics that it reads cost, as of somebody who runs it alone."""
    record, root = read_record(folder), folder.parents[1]
    read = {Path(entry["path"]).parent for entry in record["inputs"].values()}
    behind = [root / "statistics" / path.name for path in read if path.parent.name == "statistics"]
    records = [record, *(read_record(path) for path in behind if (path / COMPLETE).exists())]
    calls, seconds = (sum(one[key] for one in records) for key in ("network_calls", "seconds"))
    return SearchRun(record["config"], calls, seconds)
