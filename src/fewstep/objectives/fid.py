"""The Fréchet distance itself, a yardstick: how much any schedule can win.

Nobody should choose a schedule by it. It takes thousands of samples per value and needs the judge, and a schedule
that wins by it has won by nothing else: it is fitted to the judge's features, and to the luck of these samples.
But its schedules tell how near those come that were found without it. They are judged on samples of other seeds.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep.calls import Calls
from fewstep.denoiser import Denoiser, evaluating
from fewstep.errors import UserError
from fewstep.metrics.frechet import FeatureMoments, frechet_distance
from fewstep.noise import check_seed
from fewstep.objectives.base import Objective, Statistics
from fewstep.sampling import ROWS, sample, sampling_calls, to_grey_levels
from fewstep.schedule import Schedule
from fewstep.solvers.base import Solver, solver_calls
from fewstep.solvers.ddim import Ddim
from fewstep.statistics.features import KIND, SampleFeatures


class Fid(Objective):
    """The mean over seeds of the Fréchet distance of samples to the reference, in the judge's features.

    Args:
        solver: any; None: DDIM.
        samples: per seed; with fewer the distance is larger and noisier, though the same for all schedules alike.
        sample_seeds: none of which may judge.

    Raises:
        UserError: a setting that is none of these.
    """

    name = "fid"
    unit = "Fréchet distance"

    def __init__(
        self, solver: Solver | None = None, samples: int = 2000, sample_seeds: Sequence[int] = (100,)
    ) -> None:
        if isinstance(samples, bool) or samples < 2:
            raise UserError(f"A Fréchet distance needs at least 2 samples; given were {samples}.")
        if not sample_seeds or len(set(sample_seeds)) < len(sample_seeds):
            raise UserError(f"sample_seeds is {list(sample_seeds)}, but must name at least one, each once.")
        for seed in sample_seeds:
            check_seed(seed, "An entry of the objective's sample_seeds")
        self.sampler: Solver = Ddim() if solver is None else solver
        self.solver = self.sampler.name
        if self.solver != Ddim.name:
            self.name = f"{Fid.name}_{self.solver}"
        self.samples, self.sample_seeds = samples, tuple(sample_seeds)
        self.needs: Sequence[str] = (KIND, *self.sampler.needs)

    def image_values(self, statistics: Statistics, schedule: Schedule, denoiser: Denoiser | None = None) -> Tensor:
        """The distance, float64 [1]: it is no mean over images.

        Raises:
            UserError: no denoiser.
        """
        if denoiser is None:
            raise UserError(f"The objective {self.name!r} runs the network, so that it must be given it.")
        judge: SampleFeatures = statistics[KIND]
        self.sampler.fit({kind: statistics[kind] for kind in self.sampler.needs})
        with evaluating(denoiser):
            distances = [self._distance(judge, schedule, denoiser, seed) for seed in self.sample_seeds]
        return torch.tensor([sum(distances) / len(distances)], dtype=torch.float64)

    def value_calls(self, steps: int) -> Calls:
        """Those of all samples."""
        per_image = solver_calls(self.sampler, steps)
        calls = sampling_calls(self.samples, len(self.sample_seeds) * per_image.total)
        return Calls(calls.forward, batch=calls.batch, mark=per_image.mark)

    def _distance(self, judge: SampleFeatures, schedule: Schedule, denoiser: Denoiser, seed: int) -> float:
        features = []
        for first in range(0, self.samples, ROWS):
            numbers = range(first, min(first + ROWS, self.samples))
            images = sample(denoiser, self.sampler, schedule, numbers, seed, judge.shape)
            with torch.inference_mode():
                features.append(judge.extractor.features(to_grey_levels(images, judge.levels)))  # type: ignore[operator]
        return frechet_distance(FeatureMoments.of(torch.cat(features)), judge.reference)
