"""The plan of one job or of a sweep, as it is configured, and with the other choice of `statistics.timesteps`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fewstep.config import Config
from fewstep.errors import UserError
from fewstep.planning.ledger import Ledger
from fewstep.planning.networks import Networks
from fewstep.planning.pipeline import PlannedPipeline

TIMESTEPS = ("all", "auto")


class Plan:
    """What jobs would take; nothing is run, and nothing is written.

    Args:
        build: instantiates a node of a configuration.

    Attributes:
        jobs: how many there are.
        configured: the runs of all jobs.
        by_timesteps: `all` and `auto` → the same with that choice in every job that allows it.
        choices: which of them the jobs are configured with.
        networks: what the runs are priced by.
    """

    def __init__(self, build: Callable[[Any], Any]) -> None:
        self.build, self.networks = build, Networks(build)
        self.jobs = 0
        self.configured = Ledger()
        self.by_timesteps = {choice: Ledger() for choice in TIMESTEPS}
        self.choices: set[str] = set()

    def add(self, config: Config) -> None:
        """Plan one more job.

        Raises:
            UserError: a setting that the job would refuse.
        """
        chosen = str(config.statistics.get("timesteps", "all"))
        ledger = self._ledger(config)
        self.jobs += 1
        self.choices.add(chosen)
        self.configured.update(ledger)
        for choice, ledgers in self.by_timesteps.items():
            ledgers.update(ledger if choice == chosen else self._with(config, choice, ledger))

    def _with(self, config: Config, choice: str, otherwise: Ledger) -> Ledger:
        """The job with another choice; as it is configured where its statistics do not allow that."""
        statistics = {**config.statistics, "timesteps": choice}
        try:
            self.build(statistics)
        except UserError:
            return otherwise
        return self._ledger(replace(config, statistics=statistics))

    def _ledger(self, config: Config) -> Ledger:
        pipeline = PlannedPipeline(config, self.build, self.networks)
        pipeline.run()
        return pipeline.ledger
