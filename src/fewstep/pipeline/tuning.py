"""Stage finetune in a run: a model of its own for every schedule that is tuned for."""

import logging
from functools import cached_property

from fewstep.artefacts.statistics import load_statistics
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.objectives.base import Statistics
from fewstep.pipeline.searching import Searches
from fewstep.shared import Shared
from fewstep.stages.finetune import WHICH, Finetuning, Tuned, finetune, network_of

log = logging.getLogger(__name__)


class Tunings:
    """The tuned models of one configuration.

    Args:
        shared: the artefacts that stages share.
        searches: the schedules.

    Attributes:
        settings: how models are tuned; None where none is.
    """

    def __init__(self, shared: Shared, searches: Searches) -> None:
        self.shared, self.searches, self.config = shared, searches, shared.config
        node = self.config.finetune
        self.settings: Finetuning | None = shared.build(node) if node else None

    @property
    def schedules(self) -> list[tuple[str, int]]:
        """(schedule optimizer, K) of every schedule that a model is tuned for; none where none is configured."""
        settings = self.settings
        if settings is None:
            return []
        names = settings.schedule_optimizers or tuple(self.config.schedule_optimizer)[-1:]
        return [(name, K) for name in names for K in settings.all_steps]

    def check(self, model: Denoiser) -> None:
        """Raise a UserError unless what is tuned can be trained, and its schedules are searched."""
        c = self.config
        if self.settings is not None:
            self.settings.trainable.prepare(network_of(model))
        for name, K in self.schedules:
            if name not in c.schedule_optimizer or K not in c.steps:
                raise UserError(
                    f"finetune asks for {name} at {K} steps; this run searches "
                    f"{', '.join(c.schedule_optimizer)} at {', '.join(map(str, c.steps))} steps. "
                    "Set finetune.steps and finetune.schedule_optimizer to some of these, or finetune=none."
                )

    @cached_property
    def all(self) -> list[Tuned]:
        """Every tuned model."""
        return [self._tuned(name, K) for name, K in self.schedules]

    def _tuned(self, name: str, steps: int) -> Tuned:
        settings, c, shared = self.settings, self.config, self.shared
        weights = shared.weights
        assert settings is not None
        assert c.finetune is not None
        schedule = self.searches.schedules(name, c.variance)[steps]
        objective = self.searches.objective(name, c.variance)
        config = {
            "finetune": {key: value for key, value in c.finetune.items() if key not in WHICH},
            "steps": steps,
            "schedule": schedule.parents[1].name,
            "weights": weights.name,
            "dataset": c.dataset,
            "trainer": shared.arithmetic,
            "seed": c.seed,
        }
        folder = shared.folder("finetune", f"{name}-k{steps:03d}", config)

        def statistics() -> Statistics:
            kinds = () if objective is None else objective.needs
            at = shared.judged_at([schedule])
            return {kind: load_statistics(kind)(shared.fitted_statistics(kind, weights, at)) for kind in kinds}

        log.info("finetune    %s", folder)
        finetune(
            folder,
            config,
            settings,
            schedule,
            objective,
            statistics,
            weights,
            shared.dataset,
            shared.trainer,
            shared.logging,
            c.seed,
            shared.labels(name) | {"steps": steps},
        )
        return Tuned(name, steps, shared.charge("finetune", name, folder), schedule)
