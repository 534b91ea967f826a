"""What one job has shown and goes on to show."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from fewstep.dashboard.lineage import Artefact, ancestry
from fewstep.dashboard.shown import Shown
from fewstep.errors import UserError
from fewstep.modules.loggers import CURVES, read_curves

if TYPE_CHECKING:
    from fewstep.dashboard.board import Board


class Job:
    """A job's dashboard, opened when there is something new to show.

    Args:
        root: the experiment's folder, below which runs lie.
        folder: where the dashboard keeps its own files.
        open_board: opens the dashboard of what was shown before.
    """

    def __init__(self, root: Path, folder: Path, open_board: Callable[[Shown], "Board"]) -> None:
        self.root, self.folder, self._open_board = root, folder, open_board
        self._lock = FileLock(folder / ".lock")
        self._since = time.time()
        self._shown = Shown.read(folder, self._since)
        self._board: Board | None = None
        self._training: Artefact | None = None
        self._points: dict[str, set[tuple[int, str]]] = {}  # run → (iteration, metric) of what was shown
        self._news = False

    def begin_curves(self, folder: Path) -> None:
        """The training of a run begins, or goes on; what an attempt before measured is shown if it was not."""
        self._training = Artefact(folder)
        self._show_curves(self._training)

    def watch(self, iteration: int, values: Mapping[str, float]) -> None:
        """Something was measured in the training that is under way."""
        if self._training is not None:
            self._show_points(self._training, iteration, values)

    def end_curves(self) -> None:
        """The training is over."""
        self._training = None

    def _show_curves(self, artefact: Artefact) -> None:
        """Show what lies in a run's curve file and was not shown."""
        self._open()
        earlier, name = read_curves(artefact.folder / CURVES), self._name(artefact.folder)
        if name not in self._points:
            shown = earlier if name in self._shown.curves else []
            self._points[name] = {(iteration, metric) for iteration, values in shown for metric in values}
        for iteration, values in earlier:
            self._show_points(artefact, iteration, values)
        if name not in self._shown.curves:
            self._shown.curves.append(name)
            self._shown.save(self.folder)

    def _show_points(self, artefact: Artefact, iteration: int, values: Mapping[str, float]) -> None:
        """Show values but for those that were: a resumed training measures some anew."""
        shown = self._points[self._name(artefact.folder)]
        new = {metric: value for metric, value in values.items() if (iteration, metric) not in shown}
        if new:
            self._open().add_training(artefact, iteration, new)
            shown.update((iteration, metric) for metric in new)

    def show(self, folder: Path) -> None:
        """Show a finished run and all that it is made of, unless that was done."""
        if self._name(folder) in self._shown.runs:
            return
        for artefact in ancestry(folder):
            name = self._name(artefact.folder)
            if name not in self._shown.runs:
                if (artefact.folder / CURVES).is_file():
                    self._show_curves(artefact)
                self._open().add(artefact)
                self._shown.runs.append(name)
                self._shown.save(self.folder)
                self._news = True

    def _open(self) -> "Board":
        """The dashboard, which from its opening on is this process's alone, as is what it was shown.

        Raises:
            UserError: another process shows the same job.
        """
        if self._board is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise UserError("another process is at the same job, and shows it") from None
            self._shown = Shown.read(self.folder, self._since)  # once more, now that nobody else writes it
            self._shown.save(self.folder)
            self._board = self._open_board(self._shown)
        return self._board

    def add_tables(self) -> None:
        """Show all that was ever shown in tables, if there is anything new."""
        if self._news:
            self._open().add_tables([Artefact(self.root / name) for name in self._shown.runs])

    def end(self, *, failed: bool) -> None:
        """Close the dashboard, if it was opened."""
        board, self._board = self._board, None
        try:
            if board is not None:
                board.end(failed=failed)
        finally:
            self._lock.release()

    def _name(self, folder: Path) -> str:
        """A run's folder as seen from the experiment's."""
        return os.path.relpath(folder, self.root)
