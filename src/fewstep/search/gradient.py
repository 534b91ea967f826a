"""Gradient descent on a schedule's times: for any objective with a loss that is differentiable in them.

K free gaps of continuous time (fewstep.search.free_gaps) descend by Adam on minibatches of the `samples`, from the
best of several starts; `validation_samples` stop the descents, choose among them, and measure how far the result
lies above dp's optimum. Learning times by gradient is reported unstable (Align Your Steps, appendix B.1), hence
the starts, the warm-up, and the check of the network between its timesteps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fewstep.calls import Calls
from fewstep.data.base import data_std
from fewstep.denoiser import Denoiser, counted_on_all_ranks
from fewstep.errors import UserError
from fewstep.noise import check_seed
from fewstep.objectives.base import Objective, Statistics
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.base import check_steps
from fewstep.search.between_timesteps import most_calls
from fewstep.search.descent import Descent
from fewstep.search.descents import NAME, Descents
from fewstep.search.free_gaps import log_snr_ends
from fewstep.search.sampled_loss import SampledLoss, frozen
from fewstep.search.starts import STARTS
from fewstep.statistics.samples import KIND as SAMPLES
from fewstep.statistics.validation_samples import KIND as VALIDATION_SAMPLES


class Gradient:
    """`gradient`: Adam on K gaps of time between half a grey level and T; the result is snapped to the grid.

    Args:
        levels: grey levels of the data, for σ̄_0; None: those of the samples.
        data_std: of the data per pixel, for the axis of the gaps and the tangent start; None: that of the samples.
        iterations: of one descent, at most.
        learning_rate: the largest change per iteration of the logarithm of a gap's share.
        warmup: iterations over which the learning rate rises.
        batch_size: images per iteration; the samples are gone through in rotation, the same at every descent.
        validate_every: iterations between validations.
        patience: validations without a better score before a descent stops.
        starts: names of `STARTS`; `dp` is left out where the objective has no table.
        descents: how many of the starts are descended, those that rank best.
        seed: of the order of the samples.

    Raises:
        UserError: a setting that is none of these.
    """

    name = NAME
    needs_objective = True
    needs: Sequence[str] = (SAMPLES, VALIDATION_SAMPLES)

    def __init__(
        self,
        levels: int | None = None,
        data_std: float | None = None,
        iterations: int = 40,
        learning_rate: float = 0.35,
        warmup: int = 3,
        batch_size: int = 32,
        validate_every: int = 10,
        patience: int = 3,
        starts: Sequence[str] = STARTS,
        descents: int = 2,
        seed: int = 0,
    ) -> None:
        counts = {
            "iterations": (iterations, 1),
            "warmup": (warmup, 0),
            "batch_size": (batch_size, 1),
            "validate_every": (validate_every, 1),
            "patience": (patience, 1),
            "descents": (descents, 1),
        }
        for setting, (value, least) in counts.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise _refused(setting, value, f"a whole number of at least {least}")
        if levels is not None and levels < 2:
            raise _refused("levels", levels, "at least 2")
        if data_std is not None and not 0 < data_std < float("inf"):
            raise _refused("data_std", data_std, "positive and finite")
        if not 0 < learning_rate < float("inf"):
            raise _refused("learning_rate", learning_rate, "positive and finite")
        if isinstance(starts, str) or not starts or not set(starts) <= set(STARTS):
            raise _refused("starts", starts, f"a list of some of {', '.join(STARTS)}")
        check_seed(seed, "the gradient search's seed")
        self.levels, self.data_std, self.batch_size = levels, data_std, batch_size
        self.starts, self.descents, self.seed = tuple(starts), descents, seed
        self.descent = Descent(iterations, learning_rate, warmup, validate_every, patience)

    def check(self, objective: Objective | None, process: Process) -> None:
        """Raise a UserError unless there is an objective with a differentiable loss, and a process with an end."""
        if objective is None:
            raise UserError("The search 'gradient' needs an objective; give one, such as discretization.")
        if not objective.differentiable:
            raise UserError(
                f"The search 'gradient' needs an objective with a loss that is differentiable in times, and "
                f"{objective.name!r} has none; take another search, such as dp."
            )
        if self.levels is not None:
            log_snr_ends(process, self.levels)

    def __call__(
        self, objective: Objective | None, statistics: Statistics, denoiser: Denoiser, steps: Sequence[int]
    ) -> dict[int, Schedule]:
        """The snapped schedules; `provenance["found"]` says what was found out on the way.

        Raises:
            UserError: no objective with a loss, steps that the grid does not allow, or a loss that is not finite.
        """
        self.check(objective, denoiser.process)
        assert objective is not None
        check_steps(steps, denoiser.process)
        loss = SampledLoss(objective, denoiser, statistics, self.batch_size, self.seed)
        with frozen(denoiser), counted_on_all_ranks(denoiser):
            return self._descents(loss).schedules(steps)

    def _descents(self, loss: SampledLoss) -> Descents:
        levels = loss.samples.levels if self.levels is None else self.levels
        std = data_std(loss.samples.x0) if self.data_std is None else self.data_std
        return Descents(loss, self.descent, self.starts, self.descents, levels, std)

    def network_calls(
        self, objective: Objective | None, process: Process, images: Mapping[str, int], steps: Sequence[int]
    ) -> Calls:
        """At most: no patience ends a descent, and no two starts are alike."""
        assert objective is not None
        free = [K for K in steps if 1 < K < process.T]
        batch, validation = min(self.batch_size, images[SAMPLES]), images[VALIDATION_SAMPLES]
        ranked = 0 if objective.additive else len(self.starts) * batch
        calls = most_calls(batch).at_most() if free else Calls()
        for per_image in map(objective.loss_calls, free):
            calls += Calls(per_image * (ranked + validation))  # dp's schedule
            for _ in self.starts[: self.descents]:
                calls += self.descent.most_calls(per_image, batch, validation) + Calls(per_image * validation)
        return calls


def _refused(setting: str, value: Any, allowed: str) -> UserError:
    return UserError(f"The gradient search's {setting} is {value!r}, but must be {allowed}.")
