"""Statistics put together are those of everything measured at once."""

import pytest
import torch
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.statistics.clipped_denoising_error import ClippedDenoisingErrorEstimator
from fewstep.statistics.denoising_error import DenoisingError, DenoisingErrorEstimator
from fewstep.statistics.joining import joined_images, joined_timesteps, selected_timesteps

T = 12
PROCESS = Process.cosine(T, 1 / 16)
ESTIMATORS = {"additive": DenoisingErrorEstimator, "improved_diffusion": ClippedDenoisingErrorEstimator}
PATHS = ([0, 1, T], [0, 2, 5, T], list(range(T + 1)))


class Uneven(torch.nn.Module):
    """The variance fraction of bright images spreads further than that of dark ones."""

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        bright = x.flatten(1).mean(1).sigmoid()[:, None, None, None]
        return torch.cat([torch.tanh(1.1 * x), 2 * bright * torch.sigmoid(3 * x)], dim=1)


@pytest.fixture(scope="module", params=sorted(ESTIMATORS))
def decoder(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def images(grey_images) -> Tensor:
    drawn = grey_images(9)
    drawn[:4] = -1.0  # the first block has a narrower range of fractions
    return drawn


@pytest.fixture(scope="module")
def part(decoder: str, images: Tensor):
    """(grid indices, numbers of images) → the statistics there."""

    def measure(indices, numbers: range) -> DenoisingError:
        estimator = ESTIMATORS[decoder](
            images[numbers.start : numbers.stop],
            None,
            split="train",
            levels=17,
            indices=indices,
            seed=3,
            batch_size=4,
            first=numbers.start,
            extensible=True,
        )
        denoiser = Denoiser(Uneven(), PROCESS, "x0")
        return estimator.collect(PROCESS, [estimator.measure(denoiser, row) for row in range(len(estimator))])

    return measure


@pytest.fixture(scope="module")
def everything(part) -> DenoisingError:
    return part(range(1, T + 1), range(9))


def assert_same(found: DenoisingError, expected: DenoisingError, decoder: str, rtol: float) -> None:
    for name in ("indices", "error", "decoder_of_process", "prior"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    assert found.calls == expected.calls
    for variance in ("posterior", "beta", "optimal", "learned"):
        objective = ElboObjective(variance, decoder)
        for path in PATHS:
            schedule = Schedule.on_grid(path, PROCESS)
            nats = (objective.image_values({found.kind: statistics}, schedule) for statistics in (found, expected))
            torch.testing.assert_close(*nats, rtol=rtol, atol=0)
        tables = (objective.edge_costs({found.kind: statistics}).costs for statistics in (found, expected))
        torch.testing.assert_close(*tables, rtol=rtol, atol=0)


def test_timesteps_join_in_their_order(part, everything, decoder: str) -> None:
    even, odd = part(range(2, T + 1, 2), range(9)), part(range(1, T + 1, 2), range(9))
    for one, other in ((even, odd), (odd, even)):
        assert_same(joined_timesteps(one, other), everything, decoder, rtol=1e-12)


def test_images_join_as_if_measured_at_once(part, everything, decoder: str) -> None:
    indices = range(1, T + 1)
    narrow, wide = part(indices, range(4)), part(indices, range(4, 9))
    assert not torch.equal(narrow.fraction.centre, wide.fraction.centre)
    joined = joined_images(narrow, wide)
    torch.testing.assert_close(joined.fitted_error, everything.fitted_error, rtol=1e-12, atol=0)
    assert_same(joined, everything, decoder, rtol=2e-6)


def test_images_join_in_three_parts_too(part, everything, decoder: str) -> None:
    indices = range(1, T + 1)
    first, second, third = (part(indices, numbers) for numbers in (range(2), range(2, 5), range(5, 9)))
    assert_same(joined_images(joined_images(first, second), third), everything, decoder, rtol=3e-6)


def test_what_was_joined_comes_apart_again(part, everything, decoder: str) -> None:
    some = [2, 7, T]
    alone, selected = part(some, range(9)), selected_timesteps(everything, some)
    for name in ("indices", "error", "decoder_of_error", "fitted_error"):
        assert torch.equal(getattr(alone, name), getattr(selected, name))
    assert selected.calls == alone.calls
    schedule = Schedule.on_grid([0, *some], PROCESS)
    for variance in ("posterior", "learned"):
        objective = ElboObjective(variance, decoder)
        nats = (objective.image_values({everything.kind: found}, schedule) for found in (alone, selected))
        torch.testing.assert_close(*nats, rtol=1e-12, atol=0)
    with pytest.raises(UserError, match="lack the timesteps"):
        selected_timesteps(alone, [3])


def test_images_of_another_kind_altogether_cannot_join(part) -> None:
    one = part([1, T], range(4))
    other = part([1, T], range(4, 9))
    far = DenoisingError(**{**vars(other), "error": 1000 * other.error})
    with pytest.raises(UserError, match=r"factor of 16, so they cannot be joined"):
        joined_images(one, far)
