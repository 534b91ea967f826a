"""One run of Weights & Biases: what each of a job's finished runs is shown as."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import wandb
from safetensors.torch import load_file

from fewstep.dashboard.lineage import Artefact
from fewstep.dashboard.pictures import grid
from fewstep.dashboard.points import NFE, ROUNDS, STEPS, curves, name_of, numbers, table, word
from fewstep.record import COMPLETE
from fewstep.report.rows import read_rows
from fewstep.results import COLUMNS, Result, read_results

ITERATIONS = "iterations"
REPORT = "report"
_UPLOADED = (".csv", ".html", ".json", ".png", ".txt", ".yaml")
_LONGEST_START, _LONGEST_ANSWER, _LONGEST_END = 30.0, 15.0, 120.0  # seconds to wait for a server
_LINEAGE = ("artifact", "type", "read", "as", "made of", "sha256")


def settings() -> wandb.Settings:
    """Nothing is sent that does not lie in the outputs, nothing printed, and no server is waited for very long."""
    return wandb.Settings(
        console="off",
        silent=True,
        disable_code=True,
        disable_git=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
        init_timeout=_LONGEST_START,
        finish_timeout=_LONGEST_END,
        finish_timeout_raises=True,
    )


class Board:
    """What is shown of one job.

    Args:
        run: wandb's run.
        since: finished runs that are older were found by the job: they are its inputs, the others its outputs.
        upload_tensors: whether weights, statistics and samples are uploaded, not merely named by checksums.
    """

    def __init__(self, run: wandb.Run, since: float, upload_tensors: bool) -> None:
        self.run, self.since, self.upload_tensors = run, since, upload_tensors
        for axis in (STEPS, NFE, ROUNDS, ITERATIONS):
            run.define_metric(axis)
        for stage in ("pretrain", "finetune"):
            run.define_metric(f"{stage}/*", step_metric=ITERATIONS)

    def add_training(self, artefact: Artefact, iteration: int, values: Mapping[str, float]) -> None:
        """A point of each of a training's curves."""
        prefix = f"{artefact.stage}/{word(artefact.label)}"
        self.run.log({ITERATIONS: iteration} | {f"{prefix}/{name}": value for name, value in values.items()})

    def add(self, artefact: Artefact) -> None:
        """A finished run: its numbers, its pictures, and itself in the lineage.

        Raises:
            TimeoutError: the server takes too long.
        """
        if artefact.stage == REPORT:
            self._add_report(artefact)
        else:
            self._add_results(results_of(artefact))
            for path in sorted((artefact.folder / "samples").glob("*.safetensors")):
                image = wandb.Image(grid(load_file(path)["images"]), caption=artefact.label)
                self.run.log({f"samples/{path.stem}/{word(artefact.label)}": image})
        self._add_to_lineage(artefact)

    def _add_results(self, rows: list[Result]) -> None:
        points: dict[tuple[tuple[str, float], ...], dict[str, float]] = {}
        for curve in curves(rows):
            self.run.define_metric(curve.name, step_metric=curve.axis)
            for point in curve.points:
                at = tuple((axis, point[axis]) for axis in (STEPS, NFE, ROUNDS) if axis in point)
                points.setdefault(at, {}).update(point)
        for at in sorted(points, key=lambda at: [value for _, value in at]):
            self.run.log(points[at])
        self.run.summary.update(numbers(rows))

    def _add_report(self, artefact: Artefact) -> None:
        """Its numbers beyond those of the runs behind it, such as seconds, and its plots."""
        rows = results_of(artefact)
        sources = [Artefact(one.folder) for one in artefact.inputs if one.folder is not None]
        behind = {name_of(row) for source in sources for row in results_of(source)}
        self.run.summary.update({name: n for name, n in numbers(rows).items() if name not in behind})
        for path in sorted(artefact.folder.glob("*.png")):
            self.run.log({f"{REPORT}/{word(path.stem)}": wandb.Image(str(path))})

    def _add_to_lineage(self, artefact: Artefact) -> None:
        record = artefact.record
        made = wandb.Artifact(
            artefact.name,
            artefact.type,
            metadata={
                "read": {one.name: {"of": _name(one.folder), "sha256": one.sha256} for one in artefact.inputs},
                **{key: record[key] for key in ("facts", "git", "seed", "seconds", "network_calls", "device")},
            },
        )
        for name in record["outputs"]:
            path = artefact.folder / name
            if self.upload_tensors or path.suffix in _UPLOADED:
                made.add_file(str(path), name, skip_cache=True, policy="immutable")
            else:
                made.add_reference(path.resolve().as_uri(), name)
        begun = time.monotonic()
        if (artefact.folder / COMPLETE).stat().st_mtime >= self.since:
            self.run.log_artifact(made)
        else:  # as `use_artifact` does it, which refuses to work offline and waits for a server without end
            self.run._log_artifact(made, is_user_created=True, use_after_commit=True)
        if time.monotonic() - begun > _LONGEST_ANSWER:  # wandb goes on without one, at every artifact anew
            raise TimeoutError("the server takes too long to answer")

    def add_tables(self, artefacts: list[Artefact]) -> None:
        """All rows of results, and what every artefact is made of."""
        reports = [one for one in artefacts if one.stage == REPORT]
        rows = [row for one in reports[-1:] or artefacts for row in results_of(one)]
        if rows:
            self.run.log({"results": wandb.Table(columns=list(COLUMNS), data=table(rows))})
        read: list[Iterable[str | None]] = [
            [one.name, one.type, str(entry.path), entry.name, _name(entry.folder), entry.sha256]
            for one in artefacts
            for entry in one.inputs
        ]
        if read:
            self.run.log({"lineage": wandb.Table(columns=list(_LINEAGE), data=read)})

    def end(self, *, failed: bool) -> None:
        """Wait until all is written, or uploaded.

        Raises:
            TimeoutError: it takes too long.
        """
        try:
            self.run.finish(exit_code=1 if failed else 0)
        except TimeoutError:
            folder = Path(self.run.dir).parent
            raise TimeoutError(f"not all is uploaded; `wandb sync {folder}` uploads the rest") from None


def _name(folder: Path | None) -> str | None:
    return None if folder is None else Artefact(folder).name


def results_of(artefact: Artefact) -> list[Result]:
    """The rows of a run's `results.csv`, if it has one."""
    path = artefact.folder / "results.csv"
    return read_rows(read_results(path)) if path.is_file() else []
