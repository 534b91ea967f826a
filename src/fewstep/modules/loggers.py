"""Where training curves go, and who is told of finished runs. Files are the record; a dashboard mirrors them."""

import csv
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Protocol

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from fewstep.config import Config
from fewstep.files import write_atomically

CURVES = Path("curves") / "metrics.csv"  # inside a run's folder; not one of its outputs
_HEADER = "iteration,metric,value\n"

Watch = Callable[[int, Mapping[str, float]], None]


class Logging(Protocol):
    """Makes a Lightning logger for every training of a job, and is told of the job's finished runs."""

    def job(self, root: Path, config: Config) -> AbstractContextManager[None]: ...

    def start(self, folder: Path, stage: str) -> Logger | bool: ...

    def finish(self) -> None: ...

    def show(self, folder: Path) -> None: ...


class NoLogging:
    """No curves."""

    def job(self, root: Path, config: Config) -> AbstractContextManager[None]:
        return nullcontext()

    def start(self, folder: Path, stage: str) -> Logger | bool:
        return False

    def finish(self) -> None: ...

    def show(self, folder: Path) -> None: ...


class CsvLogging(NoLogging):
    """Curves in `curves/metrics.csv` of the run's folder."""

    def start(self, folder: Path, stage: str) -> Logger | bool:
        return CurveFile(folder)


class CurveFile(Logger):
    """The curves of one training, a line `iteration,metric,value` per number, appended as it is measured.

    Lightning's own CSV logger begins its file anew where a training is resumed. This one keeps what lies before
    the iteration that is gone on from, and drops what was measured after it by an attempt that was killed.

    Args:
        folder: the run's folder.
        watch: is told every line too.
    """

    def __init__(self, folder: Path, watch: Watch | None = None) -> None:
        super().__init__()
        self.path, self._watch, self._begun = Path(folder) / CURVES, watch, False

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return "curves"

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """`run.json` has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        iteration = step or 0
        if not self._begun:
            self._begin(iteration)
        with self.path.open("a", encoding="utf-8", newline="") as handle:
            csv.writer(handle, lineterminator="\n").writerows([iteration, *item] for item in values.items())
        if self._watch is not None:
            self._watch(iteration, values)

    def _begin(self, iteration: int) -> None:
        earlier = [(number, item) for number, values in read_curves(self.path) for item in values.items()]
        lines = [f"{number},{name},{value}\n" for number, (name, value) in earlier if number < iteration]
        write_atomically(self.path, _HEADER + "".join(lines))
        self._begun = True

    def __getstate__(self) -> dict[str, Any]:
        """What watches stays with the process that it watches from."""
        return self.__dict__ | {"_watch": None}


def read_curves(path: Path) -> list[tuple[int, dict[str, float]]]:
    """(iteration, metric → value) of a curve file, ascending; none without one. Half a last line is left out."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    lines = [line.split(",") for line in text[: text.rfind("\n") + 1].splitlines()[1:]]
    return [
        (int(iteration), {metric: float(value) for _, metric, value in rows})
        for iteration, rows in groupby(lines, key=itemgetter(0))
    ]
