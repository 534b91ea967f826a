"""A job on a dashboard of Weights & Biases: online, offline or off. Whatever fails there ends no job."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytorch_lightning.loggers import Logger

from fewstep.config import Config
from fewstep.dashboard.job import Job
from fewstep.dashboard.naming import description, folder_of, job_name, tags_of
from fewstep.dashboard.shown import Shown
from fewstep.errors import UserError
from fewstep.modules.loggers import CurveFile
from fewstep.ranks import rank

if TYPE_CHECKING:
    from fewstep.dashboard.board import Board

log = logging.getLogger(__name__)

MODES = ("online", "offline", "off")
_OF_ENVIRONMENT = {"disabled": "off", "dryrun": "offline", "offline": "offline"}


class WandbLogging:
    """Training curves, finished runs and their lineage on Weights & Biases, one run per job; curves in files too.

    Args:
        project: the project.
        group: groups runs, such as an experiment's name.
        entity: the user or team; None for the login's own.
        mode: `online`, which is off where there is no login; `offline`, into files that `wandb sync` uploads
            later; or `off`. None for what the variable WANDB_MODE says, or else online.
        tags: of every run, besides dataset, process and schedule optimizers.
        upload_tensors: whether weights, statistics and samples are uploaded too, not merely named by checksums.

    Raises:
        UserError: there is no such mode.
    """

    def __init__(
        self,
        project: str = "fewstep",
        group: str | None = None,
        entity: str | None = None,
        mode: str | None = None,
        tags: Sequence[str] = (),
        upload_tensors: bool = False,
    ) -> None:
        if mode is not None and mode not in MODES:
            raise UserError(f"logger.mode is {mode!r}; allowed are {', '.join(MODES)}, or null for WANDB_MODE's.")
        self.project, self.group, self.entity, self.tags = project, group, entity, tuple(tags)
        self.mode = mode or _OF_ENVIRONMENT.get(os.environ.get("WANDB_MODE", ""), "online")
        self.upload_tensors = upload_tensors
        self._job: Job | None = None

    @contextmanager
    def job(self, root: Path, config: Config) -> Iterator[None]:
        """All that is shown until the end of the block is one run of the dashboard's."""
        if self.mode != "off" and rank() == 0:
            with _spared():
                self._job = self._begin(root, config)
        failed = True
        try:
            yield
            failed = False
        finally:
            self._try(Job.add_tables)
            self._try(lambda job: job.end(failed=failed))
            self._job = None

    def start(self, folder: Path, stage: str) -> Logger | bool:
        """The curves of a training go into its file, and from there to the dashboard while it lasts."""
        self._try(lambda job: job.begin_curves(folder))
        return CurveFile(folder, self._watch)

    def _watch(self, iteration: int, values: Mapping[str, float]) -> None:
        self._try(lambda job: job.watch(iteration, values))

    def finish(self) -> None:
        """The training is over."""
        self._try(Job.end_curves)

    def show(self, folder: Path) -> None:
        """Show a finished run and all that it is made of, unless that was done."""
        self._try(lambda job: job.show(folder))

    def _try(self, act: Callable[[Job], None]) -> None:
        """Do something with the dashboard, if there is one; the first failure is its end."""
        job = self._job
        if job is None:
            return
        self._job = None
        with _spared():
            act(job)
            self._job = job
        if self._job is None:
            with suppress(Exception):
                job.end(failed=True)

    def _begin(self, root: Path, config: Config) -> Job | None:
        """The dashboard of a job; None where there is no login to show it with."""
        import wandb

        wandb.setup(wandb.Settings(silent=True))
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # wandb's, of a server that does not answer
        if self.mode == "online" and not wandb.login(prompt=False, verify=False):
            log.warning(
                "The dashboard is off, as there is no login to Weights & Biases: `wandb login` makes one, and "
                "logger.mode=offline needs none."
            )
            return None
        return Job(root, folder_of(root, config), lambda shown: self._open(root, config, shown))

    def _open(self, root: Path, config: Config, shown: Shown) -> "Board":
        import wandb

        from fewstep.dashboard.board import Board, settings

        run = wandb.init(
            project=self.project,
            entity=self.entity,
            group=self.group,
            job_type=config.stage,
            name=job_name(config),
            tags=list(dict.fromkeys([*tags_of(config), *self.tags])),
            config=description(config),
            id=shown.id,
            resume="allow",
            reinit="create_new",
            mode="offline" if self.mode == "offline" else "online",
            dir=str(folder_of(root, config)),
            settings=settings(),
        )
        log.info("dashboard   %s", run.url if self.mode == "online" else Path(run.dir).parent)
        return Board(run, shown.since, self.upload_tensors)


@contextmanager
def _spared() -> Iterator[None]:
    """Turn any failure into one sentence, for a dashboard is not worth a run."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning(
            "The dashboard is off from here on (%s); runs and their files are not affected.", reason.rstrip(".")
        )
