"""The decoder's conventions: with which variance the last step (0, n_1) reads x̂_0.

`additive` lets it depend on n_1 alone. `improved_diffusion` does as the code of Nichol & Dhariwal 2021: the first
posterior log-variance is replaced by the *second* retained step's, log σ̃²(n_1, n_2), and x̂_0 is clipped to [−1, 1]
everywhere, so that the first step's cost depends on the schedule's first two nodes.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep.cores import spread
from fewstep.denoiser import Prediction
from fewstep.errors import UserError
from fewstep.likelihood import discretised_gaussian_nats, tanh_discretised_gaussian_nats
from fewstep.objectives.step_terms import image_step_nats
from fewstep.process import Process
from fewstep.statistics.image_sums import DenoisingError
from fewstep.variance import LearnedVariance, OptimalVariance, Variance, log_variance_between, no_variance_head

PAIRS = 64  # rows of the table of first pairs at a time


class Decoder(ABC):
    """A convention of the decoder.

    Attributes:
        name: its word in configs and tables.
        statistics: the kind of statistics that it needs.
        tabular: whether it has a table of costs; else it judges given schedules alone.
    """

    name: str
    statistics: str
    tabular: bool = True

    def prediction(self, prediction: Prediction) -> Prediction:
        """What the convention makes of the network's prediction."""
        return prediction

    @abstractmethod
    def image_nats(self, measured: DenoisingError, variance: str, path: Sequence[int]) -> Tensor:
        """The first step's term of every image, [images], on a path of grid indices 0, n_1, n_2, …"""

    @abstractmethod
    def network_nats(
        self, process: Process, times: Tensor, x0: Tensor, prediction: Prediction, variance: Variance, levels: int
    ) -> Tensor:
        """The same at any times [K+1] from the network's own prediction at times[1], differentiable; [images]."""

    def fewest_steps(self, variance: str) -> int:
        """The fewest steps of a schedule that it can judge under a variance kind."""
        return 1

    @abstractmethod
    def fill(self, costs: Tensor, measured: DenoisingError, variance: str) -> Tensor | None:
        """Write the row costs[0] of an ELBO's table, the rest of which is filled; returns its first pairs."""


class Additive(Decoder):
    """`additive`: σ²_{t|0} for `posterior` and `beta` (clipped at t_1), training e/D for `optimal`."""

    name = "additive"
    statistics = "denoising_error"

    def image_nats(self, measured: DenoisingError, variance: str, path: Sequence[int]) -> Tensor:
        return measured.decoder(variance)[measured.rows([path[1]])[0]]

    def network_nats(
        self, process: Process, times: Tensor, x0: Tensor, prediction: Prediction, variance: Variance, levels: int
    ) -> Tensor:
        return image_step_nats(process, times[0], times[1], x0, prediction, variance, levels)

    def fill(self, costs: Tensor, measured: DenoisingError, variance: str) -> Tensor | None:
        costs[0, 1:] = measured.decoder(variance).mean(1)
        return None


class ImprovedDiffusion(Decoder):
    """`improved_diffusion`, with the exact Φ; `optimal`, which that code has not, keeps training e/D."""

    name = "improved_diffusion"
    statistics = "clipped_denoising_error"

    def prediction(self, prediction: Prediction) -> Prediction:
        return Prediction(prediction.x0.clamp(-1, 1), prediction.fraction)

    def fewest_steps(self, variance: str) -> int:
        return 1 if variance == OptimalVariance.name else 2

    def image_nats(self, measured: DenoisingError, variance: str, path: Sequence[int]) -> Tensor:
        if variance == OptimalVariance.name:
            return Additive().image_nats(measured, variance, path)
        _require_second(len(path) - 1)
        if variance == LearnedVariance.name:
            measured.fraction_sums()
        assert measured.pairs is not None
        row = int(measured.rows([path[1]])[0])
        return measured.pairs.image_nats(variance, measured.process, row, path[1], path[2])

    def network_nats(
        self, process: Process, times: Tensor, x0: Tensor, prediction: Prediction, variance: Variance, levels: int
    ) -> Tensor:
        log_variance = self.log_variance(process, times, prediction, variance)
        return discretised_gaussian_nats(x0, prediction.x0, log_variance.exp(), levels)

    def log_variance(self, process: Process, times: Tensor, prediction: Prediction, variance: Variance) -> Tensor:
        """The log-variance around x̂_0(x_t), t = times[1], broadcastable over images."""
        if variance.name == OptimalVariance.name:
            return variance.decoder(process, times[1]).log()
        _require_second(len(times) - 1)
        low = process.transition(times[1], times[2]).posterior_variance.log()
        if variance.name != LearnedVariance.name:
            return low
        if prediction.fraction is None:
            raise no_variance_head()
        return log_variance_between(low, process.log_variance(times[1]), prediction.fraction)

    def fill(self, costs: Tensor, measured: DenoisingError, variance: str) -> Tensor | None:
        """Write costs[0] in nats/example, as `Decoder.fill`; returns the first pairs' costs [T+1, T+1].

        None under `optimal`, whose variance at n_1 does not depend on n_2 as the others' does.
        """
        if variance == OptimalVariance.name:
            return Additive().fill(costs, measured, variance)
        pairs, T = measured.pairs, measured.process.T
        assert pairs is not None
        first_pairs = torch.full_like(costs, torch.inf)

        def fill_rows(low: int) -> None:
            n_1, n_2 = torch.arange(low, min(low + PAIRS, T)), torch.arange(low + 1, T + 1)
            nats = pairs.mean_nats(variance, measured.process, n_1 - 1, n_1, n_2)
            block = costs[low : low + len(n_1), low + 1 :]
            first_pairs[low : low + len(n_1), low + 1 :] = torch.where(n_1[:, None] < n_2, nats + block, torch.inf)

        spread(fill_rows, range(1, T, PAIRS))
        return first_pairs


class ImprovedDiffusionTanh(ImprovedDiffusion):
    """`improved_diffusion_tanh`: the same in that code's own arithmetic, to match the figures of its image_nll.py.

    That is the tanh approximation of Φ, in float32. Its logarithms are clamped, so no polynomial holds it and it
    has no table: it judges given schedules alone, from the totals of `improved_diffusion` with the first step's
    term measured anew at their first two nodes (fewstep.statistics.tanh_decoder). For `optimal`, which that code
    has not, the variance stays training e/D and the arithmetic alone is that code's.
    """

    name = "improved_diffusion_tanh"
    tabular = False

    def fewest_steps(self, variance: str) -> int:
        return 2

    def image_nats(self, measured: DenoisingError, variance: str, path: Sequence[int]) -> Tensor:
        if measured.tanh is None:
            raise no_table()
        _require_second(len(path) - 1)
        if variance == LearnedVariance.name:
            measured.fraction_sums()
        return measured.tanh.image_nats(variance, path[1], path[2])

    def network_nats(
        self, process: Process, times: Tensor, x0: Tensor, prediction: Prediction, variance: Variance, levels: int
    ) -> Tensor:
        log_variance = self.log_variance(process, times, prediction, variance)
        return tanh_discretised_gaussian_nats(x0, prediction.x0, log_variance, levels)

    def fill(self, costs: Tensor, measured: DenoisingError, variance: str) -> Tensor | None:
        raise no_table()


def _require_second(steps: int) -> None:
    if steps < 2:
        raise UserError(
            "A schedule of 1 step has no second node, from which the decoder 'improved_diffusion' takes its "
            "variance; give at least 2 steps, or decoder=additive."
        )


def no_table() -> UserError:
    """What to tell who asks the tanh convention for more than the schedules that it was measured for."""
    return UserError(
        "The decoder 'improved_diffusion_tanh' has no table of costs; search with decoder=improved_diffusion and "
        "judge the schedules found with evaluation.decoders=[improved_diffusion,improved_diffusion_tanh]."
    )


DECODERS = {decoder.name: decoder for decoder in (Additive(), ImprovedDiffusion(), ImprovedDiffusionTanh())}


def require_steps(steps: Sequence[int], decoders: Sequence[str], variances: Sequence[str]) -> None:
    """Raise a UserError where some decoder cannot judge some of these numbers of steps under some variance."""
    for decoder in decoders:
        for variance in variances:
            needed = DECODERS[decoder].fewest_steps(variance)
            if min(steps) < needed:
                raise UserError(
                    f"steps holds {min(steps)}, but the decoder {decoder!r} needs at least {needed} steps under "
                    f"{variance} variance; leave it out, or set evaluation.decoders=[additive]."
                )
