"""What Hydra calls while jobs run: those of a sweep outlive each other's failures, and a study ends in a page."""

import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from fewstep.errors import TRACEBACK, UserError
from fewstep.sweep import JobRecord, Outcome, SweepRecords, unfinished

log = logging.getLogger(__name__)


def threads_beside_others() -> int | None:
    """The threads of a job that may run beside others: one, or the cores that it was given; None for any other."""
    given = HydraConfig.get()
    alone = given.launcher._target_.endswith(".BasicLauncher") or given.launcher.get("n_jobs") == 1
    if alone or not _in_sweep():
        return None
    return given.launcher.get("cpus_per_task") or 1


def _in_sweep() -> bool:
    return not OmegaConf.is_missing(HydraConfig.get().job, "num")


class Sweep(Callback):
    """The end of a sweep: one job that fails does not end the others, and the last word says which failed and why.

    Hydra makes it in the process that starts the jobs, and sends it along to those that run them.

    Attributes:
        running: the records of the sweep that this process has started; None before and after one.
    """

    running: ClassVar[SweepRecords | None] = None

    def __init__(self) -> None:
        self.records: SweepRecords | None = None

    @staticmethod
    def goes_on() -> bool:
        """Whether the others go on when this job fails; ranks of torchrun end together, or some would wait."""
        told = "sweep" in getattr(HydraConfig.get(), "callbacks", {})
        return _in_sweep() and told and "TORCHELASTIC_RUN_ID" not in os.environ

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Begin the records."""
        self.records = Sweep.running = SweepRecords.of_this_process(Path(config.hydra.sweep.dir))
        self.records.remove()

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Say that a job has begun."""
        if self.records is not None:
            with suppress(OSError):  # the job itself will say that nothing can be written
                self.records.write(_record(config))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Say how it ended; a failure that is told is no longer Hydra's affair, unless it cannot be recorded."""
        if self.records is None:
            return
        outcome: Outcome | Exception = job_return._return_value
        with suppress(OSError):
            if isinstance(outcome, Outcome):
                job_return.return_value = outcome.returned
                report = None if outcome.report is None else str(outcome.report)
                self.records.write(_record(config, ended=True, part=config.part, report=report))
            elif job_return.status is JobStatus.FAILED:
                self.records.write(_record(config, ended=True, failure=str(self._told(outcome))))
                job_return.status, job_return.return_value = JobStatus.COMPLETED, None

    def _told(self, error: Exception) -> UserError:
        """Put a failure into the log, a fault of the program with where it is; it may end the sweep."""
        known = isinstance(error, UserError)
        sentence = UserError(str(error) if known else f"{type(error).__name__}: {error}")
        log.error("failed: %s", sentence, exc_info=None if known and not os.environ.get(TRACEBACK) else error)
        if not self.goes_on():
            sys.exit(f"fewstep: {sentence}")
        return sentence

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Tell what failed."""
        assert self.records is not None
        failed = unfinished(self.records.read())
        Sweep.close()
        if failed:
            sys.exit(f"fewstep: {failed}")

    @classmethod
    def close(cls) -> None:
        """Forget the records."""
        if cls.running is not None:
            cls.running.remove()
        cls.running = None


def _record(config: DictConfig, **state: Any) -> JobRecord:
    return JobRecord(number=config.hydra.job.num, overrides=list(config.hydra.overrides.task), **state)


class ComposeOnce(Callback):
    """Each job's configuration is composed once; Hydra's sweeper composes all to check them, its launcher anew."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Before the sweeper asks for the first one; other sweepers do not ask twice."""
        if config.hydra.sweeper._target_.endswith(".BasicSweeper"):
            loader = GlobalHydra.instance().config_loader()
            vars(loader)["load_sweep_config"] = _ComposedOnce(loader)


class _ComposedOnce:
    """`load_sweep_config` of a loader; the second time that it is asked for the same, it has it."""

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader = loader
        self.checked: dict[tuple[str, ...], DictConfig | None] = {}

    def __call__(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        words = tuple(sweep_overrides)
        checked = self.checked.get(words)
        if checked is not None:
            self.checked[words] = None  # given away once: its job writes into it
            return checked
        composed = type(self.loader).load_sweep_config(self.loader, master_config, sweep_overrides)
        self.checked.setdefault(words, composed)
        return composed

    def __getstate__(self) -> dict[str, Any]:
        """To another process, which composes one job's configuration, go none of the others'."""
        return {"loader": self.loader, "checked": {}}


class Study(Callback):
    """At the end of a sweep over parts: what the reports of those that are complete show together, in one page.

    Args:
        page: the function that writes it, given its path and part → folder of the part's report; a dotted path.
    """

    def __init__(self, page: str) -> None:
        self.write = get_method(page)  # a page that does not exist is told before hours of work

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the page."""
        records = [] if Sweep.running is None else Sweep.running.read()
        reports = {record.part: Path(record.report) for record in records if record.part and record.report}
        if reports:
            page = Path(config.outputs) / config.name / "results.md"
            with _ending_in_failure(records):
                self.write(page, reports)
            print(f"The study: {page}")


class Overview(Callback):
    """At the end of a sweep: a table of all that the runs of its experiment have measured.

    Args:
        table: as `report.table` names it.
    """

    def __init__(self, table: str) -> None:
        from fewstep.stages.overview import find_overview

        find_overview(table)  # a table that does not exist is told before hours of work
        self.table = table

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write and print it; nothing where jobs were listed and not run."""
        from fewstep.stages.overview import Reporting, write_overview

        if Sweep.running is None:
            return
        with _ending_in_failure(Sweep.running.read()):
            settings = Reporting(self.table, [config.name])
            print(write_overview(Path(config.outputs), settings, schedule_optimizers()))


def schedule_optimizers() -> list[str]:
    """The names of all schedule optimizers that Hydra finds, in folders of the user's own too."""
    loader = GlobalHydra.instance().config_loader()
    return sorted(loader.get_group_options("schedule_optimizer"))


@contextmanager
def _ending_in_failure(records: Sequence[JobRecord]) -> Iterator[None]:
    """An error at the end of a sweep ends the program: Hydra would turn it into a warning, and success."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exc()
        sys.exit("\n".join(filter(None, [f"fewstep: {error}", unfinished(records)])))
