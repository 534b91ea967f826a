"""Statistics between measured timesteps: what is exact, and that the rest comes close."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.regret import first_costs
from fewstep.statistics.clipped_denoising_error import ClippedDenoisingErrorEstimator
from fewstep.statistics.denoising_error import DenoisingError, DenoisingErrorEstimator
from fewstep.statistics.interpolation import interpolated
from fewstep.statistics.joining import selected_timesteps
from fewstep.statistics.refinement import even_in_log_snr

T = 300
PROCESS = Process.cosine(T, 1 / 16)
VARIANCES = ("posterior", "beta", "optimal", "learned")


class TwoHeads(torch.nn.Module):
    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        t = (time[:, None, None, None] + 1) / T
        fraction = -0.2 + 1.4 * torch.sigmoid(2 * x + t)
        return torch.cat([torch.tanh(1.1 * x) * (1 - 0.4 * t), 2 * fraction - 1], dim=1)


@pytest.fixture(scope="module", params=["additive", "improved_diffusion"])
def everything(request: pytest.FixtureRequest, grey_images) -> tuple[str, DenoisingError]:
    """The decoder's convention, and statistics at all timesteps."""
    estimators = {"additive": DenoisingErrorEstimator, "improved_diffusion": ClippedDenoisingErrorEstimator}
    denoiser = Denoiser(TwoHeads(), PROCESS, "x0")
    estimator = estimators[request.param](
        grey_images(8), None, split="train", levels=17, indices=range(1, T + 1), seed=0, batch_size=8
    )
    rows = [estimator.measure(denoiser, row) for row in range(T)]
    return request.param, estimator.collect(PROCESS, rows)


@pytest.mark.parametrize("variance", VARIANCES)
def test_costs_at_measured_timesteps_are_those_measured(everything, variance: str) -> None:
    decoder, whole = everything
    objective = ElboObjective(variance, decoder)
    nodes = even_in_log_snr(PROCESS, 9)
    found = objective.edge_costs({whole.kind: interpolated(selected_timesteps(whole, nodes))})
    expected = objective.edge_costs({whole.kind: whole})
    torch.testing.assert_close(found.costs[:, nodes], expected.costs[:, nodes], rtol=1e-13, atol=0)
    torch.testing.assert_close(
        torch.stack([first_costs(found, n) for n in nodes]),
        torch.stack([first_costs(expected, n) for n in nodes]),
        rtol=1e-9,
        atol=1e-9,
    )


@pytest.mark.parametrize("variance", VARIANCES)
def test_more_timesteps_come_closer_to_all(everything, variance: str) -> None:
    """The cubic's error falls at least with the square of the spacing: 40 nodes err by a tenth of what 10 do."""
    decoder, whole = everything
    objective = ElboObjective(variance, decoder)
    expected = objective.edge_costs({whole.kind: whole}).costs[1:, 2:]
    errors = []
    for n in (10, 40):
        few = interpolated(selected_timesteps(whole, even_in_log_snr(PROCESS, n)))
        found = objective.edge_costs({whole.kind: few}).costs[1:, 2:]
        errors.append((found / expected - 1).nan_to_num(0.0).abs().max().item())
    assert errors[0] < 0.2
    assert errors[1] < errors[0] / 10


@pytest.mark.parametrize("variance", VARIANCES)
def test_per_image_sums_agree_with_the_table(everything, variance: str) -> None:
    decoder, whole = everything
    objective = ElboObjective(variance, decoder)
    few = {whole.kind: interpolated(selected_timesteps(whole, even_in_log_snr(PROCESS, 9)))}
    table, prior = objective.edge_costs(few), whole.prior.mean().item()
    for path in ([0, 5, 40, T], [0, 1, 2, 3, 150, T - 1, T]):
        value = objective.value(few, Schedule.on_grid(path, PROCESS))
        assert table.total(path) + prior == pytest.approx(value, rel=1e-9)


def test_a_power_law_is_interpolated_exactly(everything) -> None:
    """log e linear in log-SNR, and equal shares: a monotone cubic through points of a line is the line."""
    _, whole = everything
    power = torch.exp(-0.7 * PROCESS.log_snr(PROCESS.grid[1:]))[:, None] * torch.linspace(1, 2, 8)
    law = DenoisingError(**{**vars(whole), "error": power})
    found = interpolated(selected_timesteps(law, even_in_log_snr(PROCESS, 6)))
    torch.testing.assert_close(found.error, power.double(), rtol=1e-6, atol=0)
    assert bool((found.error.mean(1).diff() > 0).all())


def test_what_is_complete_stays_as_it_is(everything) -> None:
    _, whole = everything
    assert interpolated(whole) is whole


def test_interpolated_statistics_say_so_and_are_not_saved(everything, tmp_path: Path) -> None:
    _, whole = everything
    nodes = even_in_log_snr(PROCESS, 9)
    found = interpolated(selected_timesteps(whole, nodes))
    assert found.measured.indices.tolist() == nodes
    assert found.calls == 8 * len(nodes)
    with pytest.raises(UserError, match="not written to files"):
        found.save(tmp_path / "statistics.safetensors")


def test_the_ends_must_have_been_measured(everything) -> None:
    _, whole = everything
    for indices in ([2, 50, T], [1, 50, T], [1, 2, 50]):
        with pytest.raises(UserError, match=r"1, 2 and 300 of the grid, which must be measured; given were \["):
            interpolated(selected_timesteps(whole, indices))
