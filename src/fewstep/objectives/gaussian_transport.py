"""The squared error of a deterministic solver on Gaussian data of the data's own covariance; no network call.

Derived for this project; for related work see arXiv 2601.13602. Write σ for the noise level σ/α, and c_j² for the
covariance's eigenvalues. Where the data are Gaussian and the denoiser exact, DDIM, which is Euler's method, is
linear along every eigenvector j: a step from σ_t to σ_s multiplies the deviation from the mean by

    cos(θ_jt − θ_js) √((c_j² + σ_s²)/(c_j² + σ_t²)),    θ_j = arctan(σ/c_j),

of which the root is what the exact solution does. So a whole schedule gives r_j = Π_i cos(θ_ij − θ_{i−1,j}) times
the exact solution of the same noise, whose standard deviation at the end is c_j, and errs by Σ_j c_j² (1 − r_j)².

The end is σ_0 = 0, where the solver's last step really goes: it returns D(x_{t_1}), which multiplies by cos θ_1j.
Nothing degenerates there, as every direction counts by its own variance: nodes far below a c_j gain nothing for
it, and one of c_j = 0 (a constant pixel: θ = π/2 at every node) costs nothing. So no node has to be forbidden, and
half a grey level, at which other objectives have to end, is not needed.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep import chebyshev
from fewstep.cores import spread
from fewstep.costs import CostTable
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.objectives.base import Objective, Statistics
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.statistics.covariance import KIND, MeasuredCovariance

ROWS = 16  # of the table at a time, so that its temporaries stay in a core's cache
INFINITE = 1e20  # stands for an infinite noise level, θ = π/2: of its steps every term but the largest vanishes
INTERPOLATION_ERROR = 1e-8  # of a table, as a share of the weights' sum; in practice far less


class GaussianTransport(Objective):
    """Σ_j c_j² (1 − r_j)² = E‖DDIM's output − the exact solution‖² from the same noise, of an image.

    The state at the start is taken to have its exact variance, c_j² + σ_T². Each −log r_j is a sum over steps, the
    whole is not: the table is linearised around a path, and dp goes from table to table.
    """

    name = "gaussian_transport"
    unit = "squared error"
    needs: Sequence[str] = (KIND,)
    solver = "ddim"
    linearised = True

    def edge_costs(self, statistics: Statistics, around: Schedule | None = None) -> CostTable:
        """Σ_j w_j (−log cos(θ_jt − θ_js)) for every s < t on the grid.

        w_j = 2 c_j² (1 − r_j) r_j, the value's derivative with respect to −log r_j at the path `around`. Without
        a path it is c_j², by which the direction counts in the value.
        """
        measured = _measured(statistics)
        c, process = _standard_deviations(measured), measured.process
        weights = c.square()
        if around is not None:
            around.require_process(process)
            ratio = torch.exp(-_path_costs(_noise_levels(process, around.times), c))
            weights = 2 * c.square() * (1 - ratio) * ratio
        costs = _table(_noise_levels(process, process.grid), *_at_few_points(c, weights))
        return CostTable(process.grid, costs, self.unit)

    def image_values(self, statistics: Statistics, schedule: Schedule, denoiser: Denoiser | None = None) -> Tensor:
        """The true value, float64 [1]; the schedule may lie off the grid."""
        measured = _measured(statistics)
        schedule.require_process(measured.process)
        return _value(_noise_levels(measured.process, schedule.times), _standard_deviations(measured))[None]

    def loss(self, denoiser: Denoiser, x0: Tensor, times: Tensor, noise: Tensor, statistics: Statistics) -> Tensor:
        """The true value again, in closed form: no network call, and images and noise are not looked at."""
        c = _standard_deviations(_measured(statistics)).to(times.device)
        return _value(_noise_levels(denoiser.process, times), c)


def _noise_levels(process: Process, times: Tensor) -> Tensor:
    return process.noise_level(times).clamp(max=INFINITE)


def _measured(statistics: Statistics) -> MeasuredCovariance:
    if KIND not in statistics:
        raise UserError(
            f"The objective {GaussianTransport.name!r} needs statistics of the kind {KIND!r}; "
            f"given were {', '.join(statistics) or 'none'}."
        )
    measured: MeasuredCovariance = statistics[KIND]
    return measured


def _standard_deviations(measured: MeasuredCovariance) -> Tensor:
    """c_j of the directions in which the images vary at all, beyond rounding, float64, ascending.

    Raises:
        UserError: there is none.
    """
    variances = measured.data.eigenvalues
    seen = variances > len(variances) * torch.finfo(torch.float64).eps * variances.max()
    if not bool(seen.any()):
        raise UserError("The images are all the same, so that their covariance tells nothing of schedules.")
    return variances[seen].sqrt()


def _step_costs(sigma_s: Tensor, sigma_t: Tensor, c: Tensor) -> Tensor:
    """−log cos(θ_t − θ_s) = ½ log(1 + tan²), tan = c (σ_t − σ_s)/(c² + σ_s σ_t), which does not cancel."""
    return torch.log1p((c * (sigma_t - sigma_s) / (c.square() + sigma_s * sigma_t)).square()) / 2


def _path_costs(levels: Tensor, c: Tensor) -> Tensor:
    """−log r_j [directions] of the schedule of noise levels [K+1]."""
    return _step_costs(levels[:-1, None], levels[1:, None], c).sum(0)


def _value(levels: Tensor, c: Tensor) -> Tensor:
    """Σ_j c_j² (1 − r_j)², a scalar, differentiable in the noise levels [K+1]."""
    return (c * torch.expm1(-_path_costs(levels, c))).square().sum()


def _at_few_points(c: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Fewer c and their weights, some negative, for which every step's Σ_j w_j (−log cos) is the same.

    With u = log c, −log cos is ½ log(e^{2u} + σ_s²) + ½ log(e^{2u} + σ_t²) − log(e^{2u} + σ_s σ_t), analytic for
    |Im u| < π/2, so that its Chebyshev interpolant on an interval of length L converges like ρ^{−n}, log ρ =
    asinh(π/L) (Trefethen 2013, Theorem 8.2). Every direction is one mixture of its n points, whatever the step.
    """
    u = c.log()
    low, length = u.min(), max((u.max() - u.min()).item(), 1e-6)
    n = max(2, math.ceil(-math.log(INTERPOLATION_ERROR) / math.asinh(math.pi / length)))
    if n >= len(c):
        return c, weights
    of_points = chebyshev.coefficients(torch.eye(n, dtype=torch.float64))
    mixture = chebyshev.evaluate(of_points, (2 * (u - low) / length - 1).clamp(-1, 1)[:, None])
    return torch.exp(low + (chebyshev.points(n) + 1) / 2 * length), weights @ mixture


def _table(levels: Tensor, c: Tensor, weights: Tensor) -> Tensor:
    """Σ_j w_j (−log cos), float64 [T+1, T+1], +∞ unless s < t; some rows at a time, direction by direction."""
    T = len(levels) - 1
    costs = torch.full((T + 1, T + 1), math.inf, dtype=torch.float64)

    def fill(first: int) -> None:
        sigma_s, sigma_t = levels[first : min(first + ROWS, T), None], levels[first + 1 :]
        difference, product = sigma_t - sigma_s, sigma_t * sigma_s
        total, tangent = torch.zeros_like(product), torch.empty_like(product)
        for c_j, w_j in zip(c.tolist(), (weights / 2).tolist(), strict=True):  # _step_costs, in place
            torch.add(product, c_j**2, out=tangent)
            torch.div(difference, tangent, out=tangent)
            total.add_(tangent.mul_(c_j).square_().log1p_(), alpha=w_j)
        s, t = torch.arange(first, first + len(sigma_s)), torch.arange(first + 1, T + 1)
        costs[s, first + 1 :] = total.masked_fill_(s[:, None] >= t, math.inf)

    spread(fill, range(0, T, ROWS))
    return costs
