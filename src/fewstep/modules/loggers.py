"""Where training curves go. Files are the record; wandb is a mirror of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger


class Logging(Protocol):
    """Makes a Lightning logger for a stage, and closes it."""

    def start(self, folder: Path, stage: str) -> Logger | bool: ...

    def finish(self) -> None: ...


class NoLogging:
    """No curves."""

    def start(self, folder: Path, stage: str) -> Logger | bool:
        return False

    def finish(self) -> None: ...


class CsvLogging:
    """Curves in `curves/metrics.csv` of the run's folder."""

    def start(self, folder: Path, stage: str) -> Logger | bool:
        return CSVLogger(folder, name="", version="curves")

    def finish(self) -> None: ...


class WandbLogging:
    """Curves to Weights & Biases; offline unless told otherwise, so that no account is needed.

    Args:
        project: the project.
        group: groups runs, such as an experiment's name.
        offline: write to the run's folder instead of the network; `wandb sync` uploads it later.
        tags: tags of every run.
    """

    def __init__(
        self, project: str, group: str | None = None, offline: bool = True, tags: Sequence[str] = ()
    ) -> None:
        self.project, self.group, self.offline, self.tags = project, group, offline, tuple(tags)

    def start(self, folder: Path, stage: str) -> Logger | bool:
        (folder / "curves").mkdir(parents=True, exist_ok=True)
        return WandbLogger(
            name=folder.name,
            save_dir=folder / "curves",
            project=self.project,
            group=self.group,
            job_type=stage,
            tags=list(self.tags),
            offline=self.offline,
        )

    def finish(self) -> None:
        """End wandb's run: a second one in the same process would go on in it otherwise."""
        import wandb

        wandb.finish()
