"""The gradient search: dp's optimum and the closed form on Gaussian data, and what it says of itself."""

import json
import logging
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewstep.costs import CostTable
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.noise import Noise
from fewstep.objectives.base import Objective, Statistics
from fewstep.objectives.discretization import Discretization
from fewstep.objectives.elbo import ElboObjective
from fewstep.objectives.mse_reweighted import MseReweighted
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.dp import Dp
from fewstep.search.gradient import Gradient
from fewstep.search.starts import STARTS, rule_schedules
from fewstep.statistics.denoising_error import DenoisingErrorEstimator
from fewstep.statistics.samples import Samples

C, T, LEVELS = 0.5, 1000, 17
END = 1 / (LEVELS - 1)
PROCESS = Process.edm(T, END, 80.0)

# Four images of one pixel whose moments are exactly those of their laws: E a² = c², E b² = 1, E ab = 0. The mean
# error of the exact denoiser on them is the expectation c²σ²/(c² + σ²) itself.
X0 = C * torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64).reshape(4, 1, 1, 1)
NOISE = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64).reshape(4, 1, 1, 1)


def sampled(denoiser: Denoiser, x0: Tensor, noise: Tensor) -> dict[str, Any]:
    """Statistics at every timestep of these very images and noises, which are the samples of both kinds too."""
    process = denoiser.process
    estimator = DenoisingErrorEstimator(
        x0, None, split="train", levels=LEVELS, indices=range(1, process.T + 1), seed=0, batch_size=64
    )
    estimator.common_noise = noise
    with torch.inference_mode():
        rows = [estimator.measure(denoiser, row) for row in range(process.T)]
    samples = Samples(process=process, x0=x0, noise=noise, levels=LEVELS, split="validation", seed=0)
    measured = estimator.collect(process, rows)
    return {"denoising_error": measured, "samples": samples, "validation_samples": samples}


@pytest.fixture(scope="module")
def gaussian(perfect_denoiser: Callable[..., Denoiser]) -> tuple[Denoiser, Statistics]:
    denoiser = perfect_denoiser(PROCESS, C**2)
    return denoiser, sampled(denoiser, X0, NOISE)


def grey_samples(grey_images: Callable[..., Tensor], denoiser: Denoiser, n: int = 8) -> dict[str, Any]:
    images = grey_images(n, (1, 2, 2))
    return sampled(denoiser, images, Noise(3, range(n), (1, 2, 2))(0))


def uniform(K: int) -> float:
    """The least p = 2 loss: nodes uniform in log u, u = 1 + c²/σ²; a step costs σ_0² (u_{i−1}/u_i − 1)."""
    u = [1 + (C / level) ** 2 for level in (END, 80.0)]
    return END**2 * K * math.expm1(math.log(u[0] / u[1]) / K)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("K", [4, 6, 10, 20])
def test_it_comes_to_the_closed_form_and_to_dps_optimum(
    K: int, start: str, gaussian: tuple[Denoiser, Statistics]
) -> None:
    """p = 2, within 0.1 %, from every start, at the settings that users get."""
    denoiser, statistics = gaussian
    objective = Discretization(2.0)
    found = Gradient(starts=[start])(objective, statistics, denoiser, [K])[K]
    facts = found.provenance["found"]
    assert facts["continuous"]["score"] == pytest.approx(uniform(K), rel=1e-3)
    assert facts["continuous"]["score"] > uniform(K) * (1 - 1e-12)  # no schedule is better
    best = objective.value(statistics, Dp()(objective, statistics, denoiser, [K])[K])
    value = objective.value(statistics, found)
    assert best * (1 - 1e-12) <= value <= best * 1.001
    assert facts["optimality_gap"]["value"] == pytest.approx(value / best - 1, abs=1e-9)
    assert not facts["local_minimum"]


@pytest.mark.parametrize("start", ["even", "karras"])
@pytest.mark.parametrize("make", [Discretization, lambda: ElboObjective("optimal")], ids=["p=1", "elbo"])
def test_it_comes_to_dps_optimum_on_a_cosine_process(
    make: Callable[[], Objective], start: str, perfect_denoiser: Callable[..., Denoiser]
) -> None:
    denoiser = perfect_denoiser(Process.cosine(T, END), C**2)
    statistics, objective = sampled(denoiser, X0, NOISE), make()
    found = Gradient(starts=[start])(objective, statistics, denoiser, [4])[4]
    best = objective.value(statistics, Dp()(objective, statistics, denoiser, [4])[4])
    assert objective.value(statistics, found) <= best + 1e-3 * abs(best)


def test_no_fixed_rule_is_better(perfect_denoiser: Callable[..., Denoiser], grey_images: Any) -> None:
    """For time spent as for noise, on images that are no Gaussian's, on all of which it descends."""
    denoiser = perfect_denoiser(Process.cosine(200, END), 0.3)
    statistics, objective = grey_samples(grey_images, denoiser), MseReweighted()
    found = Gradient()(objective, statistics, denoiser, [5])[5]
    rules = (rule_schedules(STARTS, denoiser, 5, LEVELS, 0.5)).values()
    assert objective.value(statistics, found) < min(objective.value(statistics, rule) for rule in rules)
    assert {*found.provenance["found"]["starts"]} == set(STARTS)


# What it says


def test_what_it_found_is_plain_and_consistent(gaussian: tuple[Denoiser, Statistics]) -> None:
    denoiser, statistics = gaussian
    found = Gradient(iterations=10)(Discretization(), statistics, denoiser, [5, 3])
    assert [*found] == [5, 3]
    for K, schedule in found.items():
        facts = json.loads(json.dumps(schedule.provenance, allow_nan=False))["found"]
        assert schedule.steps == K
        assert len(facts["descents"]) == 2
        assert facts["descents"].keys() <= facts["starts"].keys()
        assert facts["start"] == min(facts["descents"], key=lambda name: facts["descents"][name]["score"])
        times = torch.tensor(facts["continuous"]["times"])
        assert bool((times.diff() > 0).all())
        assert (times - schedule.times).abs().max() < 1 / T  # snapped to a neighbour
        assert facts["snapped"]["score"] == pytest.approx(Discretization().value(statistics, schedule), rel=1e-9)
        assert facts["optimality_gap"]["n_images"] == 4
        assert facts["between_timesteps"]["wild"] == []


def test_the_starts_are_the_rules_and_dps_own_schedules(gaussian: tuple[Denoiser, Statistics]) -> None:
    """They score on the table as the schedules themselves do, and the best two are descended."""
    denoiser, statistics = gaussian
    objective = Discretization()
    facts = Gradient(data_std=C, iterations=1)(objective, statistics, denoiser, [6])[6].provenance["found"]
    schedules = rule_schedules(STARTS, denoiser, 6, LEVELS, C) | {
        "dp": Dp()(objective, statistics, denoiser, [6])[6]
    }
    for name in ("tangent", "dp"):  # the others have gaps at strong noise that are widened
        assert facts["starts"][name] == pytest.approx(objective.value(statistics, schedules[name]), rel=1e-12)
    best_two = sorted(schedules, key=lambda name: objective.value(statistics, schedules[name]))[:2]
    assert [*facts["descents"]] == best_two


class TwoValleys(Objective):
    """A sum over steps with a node wanted at one of two places, of which the nearer to T is the better by far."""

    name = "two_valleys"
    unit = "squared error"
    needs: tuple[str, ...] = ()

    def _cost(self, t: Tensor) -> Tensor:
        return torch.where(
            t == 1, 0.0, 2 - torch.exp(-(((t - 0.2) / 0.05) ** 2)) - 1.9 * torch.exp(-(((t - 0.8) / 0.05) ** 2))
        )

    def edge_costs(self, statistics: Statistics, around: Schedule | None = None) -> CostTable:
        t = PROCESS.grid
        costs = self._cost(t).expand(T + 1, T + 1).clone()
        return CostTable(t, costs.masked_fill(t <= t[:, None], torch.inf), self.unit)

    def image_values(self, statistics: Statistics, schedule: Schedule, denoiser: Denoiser | None = None) -> Tensor:
        return self._cost(schedule.times[1:]).sum()[None]

    def loss(self, denoiser: Denoiser, x0: Tensor, times: Tensor, noise: Tensor, statistics: Statistics) -> Tensor:
        return self._cost(times[1:]).sum() + 0.1 * (x0 * noise).mean()


def test_a_local_minimum_is_named(
    gaussian: tuple[Denoiser, Statistics], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    denoiser, statistics = gaussian
    near_the_worse = Schedule.on_grid([0, 230, T], PROCESS)
    monkeypatch.setattr("fewstep.search.descents.rule_schedules", lambda *_: {"even": near_the_worse})
    with caplog.at_level(logging.WARNING):
        found = Gradient(starts=["even"])(TwoValleys(), statistics, denoiser, [2])[2].provenance["found"]
    assert found["continuous"]["times"][1] == pytest.approx(0.2, abs=0.01)
    assert found["optimality_gap"]["value"] == pytest.approx(1.0 / 0.1 - 1, rel=0.01)
    assert found["local_minimum"] is True
    assert "ended in a local minimum for 2 steps" in caplog.text


class NoSum(TwoValleys):
    """The same without its table."""

    name = "no_sum"
    additive = False  # type: ignore[assignment]


def test_an_objective_that_is_no_sum_is_descended_and_has_no_gap(gaussian: tuple[Denoiser, Statistics]) -> None:
    denoiser, statistics = gaussian
    found = Gradient()(NoSum(), statistics, denoiser, [2])[2].provenance["found"]
    assert "optimality_gap" not in found
    assert "dp" not in found["starts"]
    assert "no sum over steps" in found["no_optimum"]


def test_it_calls_the_network_as_often_as_it_says(gaussian: tuple[Denoiser, Statistics]) -> None:
    """Three times at each of eight cells; K per iteration, validation and score, on four images."""
    denoiser, statistics = gaussian
    before, K = denoiser.evaluations, 3
    Gradient(iterations=4, validate_every=2, patience=9)(Discretization(), statistics, denoiser, [K])
    scores = 3  # of the two snapped schedules and of dp's
    assert denoiser.evaluations - before == 4 * (3 * 8 + 2 * K * (4 + 1 + 2) + scores * K)


@pytest.mark.parametrize("K", [1, 12])
def test_where_there_is_one_path_alone_nothing_is_searched(
    K: int, perfect_denoiser: Any, grey_images: Any
) -> None:
    denoiser = perfect_denoiser(Process.cosine(12, 0.07), C**2)
    statistics = grey_samples(grey_images, denoiser)
    before = denoiser.evaluations
    found = Gradient()(Discretization(), statistics, denoiser, [K])[K]
    assert found.indices == ([0, 12] if K == 1 else list(range(13)))
    assert denoiser.evaluations == before


# The network


class Trained(nn.Module):
    """A network with weights, dropout and one gradient of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
        self.fixed = nn.Parameter(torch.tensor(1.0, dtype=torch.float64), requires_grad=False)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.dropout(x) * self.scale * self.fixed / (1 + time.reshape(-1, 1, 1, 1) / T)


def test_the_networks_weights_and_mode_stay_as_they_are(gaussian: tuple[Denoiser, Statistics]) -> None:
    network = Trained()
    denoiser = Denoiser(network, PROCESS, "x0").train()
    network.dropout.eval()
    Gradient(iterations=2)(Discretization(), gaussian[1], denoiser, [3])
    assert network.scale.grad is None
    assert network.scale.requires_grad
    assert not network.fixed.requires_grad
    assert network.training
    assert not network.dropout.training


def test_the_same_search_again_finds_the_same(gaussian: tuple[Denoiser, Statistics]) -> None:
    denoiser, statistics = gaussian
    first, second = (
        Gradient(iterations=6, batch_size=2, seed=5)(Discretization(), statistics, denoiser, [4])[4]
        for _ in range(2)
    )
    assert first.provenance == second.provenance


def test_a_network_that_returns_nan_is_named(gaussian: tuple[Denoiser, Statistics]) -> None:
    broken = Denoiser(lambda x, time: x * float("nan"), PROCESS, "x0")
    with pytest.raises(UserError, match="not finite"):
        Gradient(starts=["even"])(Discretization(), gaussian[1], broken, [3])


# What it refuses


class NoLoss(Objective):
    name = "no_loss"
    unit = "squared error"
    needs: tuple[str, ...] = ()

    def image_values(self, statistics: Statistics, schedule: Schedule, denoiser: Denoiser | None = None) -> Tensor:
        return schedule.times


def test_it_needs_an_objective_with_a_loss() -> None:
    with pytest.raises(UserError, match=r"'gradient' needs an objective; give one"):
        Gradient().check(None, PROCESS)
    with pytest.raises(UserError, match=r"loss that is differentiable in times, and 'no_loss' has none"):
        Gradient().check(NoLoss(), PROCESS)


class Endless(Process):
    """The edm process with an infinite end, as zero terminal SNR is."""

    def log_snr(self, t: Tensor) -> Tensor:
        return torch.where(torch.as_tensor(t) == 1, -torch.inf, super().log_snr(t))


def test_it_needs_a_process_with_an_end() -> None:
    endless = Endless(torch.linspace(4, -4, 9, dtype=torch.float64), False, PROCESS.definition)
    with pytest.raises(UserError, match="ends at an infinite noise level"):
        Gradient(levels=LEVELS).check(Discretization(), endless)
    with pytest.raises(UserError, match="0 < sigma_min < sigma_max, both finite"):
        Process.edm(10, 0.01, math.inf)
    with pytest.raises(UserError, match="must be positive and finite from t_1 to its end"):
        Process(torch.tensor([1.0, -math.inf], dtype=torch.float64), False, PROCESS.definition)


def test_it_needs_noise_above_half_a_grey_level() -> None:
    with pytest.raises(UserError, match=r"above the noise level 1/16, half a grey level"):
        Gradient(levels=LEVELS).check(Discretization(), Process.edm(10, 0.001, 0.05))


@pytest.mark.parametrize(
    "setting, value",
    [
        ("iterations", 0),
        ("iterations", 2.5),
        ("batch_size", 0),
        ("validate_every", 0),
        ("patience", 0),
        ("descents", 0),
        ("descents", True),
        ("warmup", -1),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("levels", 1),
        ("data_std", 0.0),
        ("starts", []),
        ("starts", ["quadratic"]),
        ("starts", "even"),
    ],
)
def test_a_setting_that_is_none_is_named(setting: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"The gradient search's {setting} is .*, but must be "):
        Gradient(**{setting: value})
