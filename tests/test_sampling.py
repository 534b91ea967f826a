"""Samples depend on the image's index and nothing else, to the last bit, with a real network."""

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewstep.backbones.unet import UNet
from fewstep.denoiser import Denoiser
from fewstep.process import Process
from fewstep.sampling import ROWS, sample, to_grey_levels
from fewstep.schedule import Schedule
from fewstep.solvers.ancestral import Ancestral
from fewstep.solvers.ddim import Ddim

SHAPE = (1, 8, 8)
PROCESS = Process.cosine(40, 1 / 16)
SCHEDULE = Schedule.on_grid([0, 4, 15, 40], PROCESS)
SOLVERS = [Ddim(), Ddim(eta=0.7), Ancestral("beta")]


@pytest.fixture(scope="module")
def denoiser(small_unet: Callable[..., UNet], randomised: Callable[[UNet, float], UNet]) -> Denoiser:
    """A narrow UNet with attention, random everywhere."""
    network = small_unet(
        model_channels=12, channel_mult=[1, 2], attention_resolutions=[4], num_heads=2, num_groups=4
    )
    return Denoiser(randomised(network, 0.1), PROCESS, "edm").eval()


@pytest.fixture
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("solver", SOLVERS, ids=["ddim", "ddim with noise", "ancestral"])
def test_samples_do_not_depend_on_their_company(denoiser: Denoiser, solver) -> None:
    indices = list(range(2 * ROWS + 7))
    together = sample(denoiser, solver, SCHEDULE, indices, 0, SHAPE)
    assert bool(torch.isfinite(together).all())
    assert len({image.numpy().tobytes() for image in together}) == len(indices)
    for batch_size, most in ((1, 2), (7, 10), (50, 3), (ROWS + 1, 3)):
        parts = [indices[first : first + batch_size] for first in range(0, len(indices), batch_size)]
        for part in parts[-most:]:
            assert torch.equal(sample(denoiser, solver, SCHEDULE, part, 0, SHAPE), together[part])


@pytest.mark.usefixtures("_two_threads")
def test_nor_where_two_threads_share_a_batch(denoiser: Denoiser) -> None:
    schedule = Schedule.on_grid([0, 9, 40], PROCESS)
    together = sample(denoiser, Ddim(), schedule, range(ROWS), 0, SHAPE)
    for part in ([5], [63, 2, 7]):
        assert torch.equal(sample(denoiser, Ddim(), schedule, part, 0, SHAPE), together[part])


@settings(max_examples=15)
@given(st.lists(st.integers(0, 3 * ROWS), min_size=1, max_size=9))
def test_samples_do_not_depend_on_order_or_repeats(perfect_denoiser, indices: list[int]) -> None:
    exact = perfect_denoiser(PROCESS, torch.diag(torch.linspace(0.1, 2, 64)))
    everything = sample(exact, Ancestral("posterior"), SCHEDULE, range(3 * ROWS + 1), 5, SHAPE)
    assert torch.equal(sample(exact, Ancestral("posterior"), SCHEDULE, indices, 5, SHAPE), everything[indices])


def test_a_shuffled_subset_of_a_real_networks_samples(denoiser: Denoiser) -> None:
    indices = [70, 3, 127, 0, 63, 64]
    together = sample(denoiser, SOLVERS[1], SCHEDULE, range(128), 1, SHAPE)
    assert torch.equal(sample(denoiser, SOLVERS[1], SCHEDULE, indices, 1, SHAPE), together[indices])


def test_another_seed_is_another_sample(denoiser: Denoiser) -> None:
    first, second = (sample(denoiser, Ddim(), SCHEDULE, [0], seed, SHAPE) for seed in (0, 1))
    assert not torch.equal(first, second)
    assert first.dtype == torch.float64
    assert first.shape == (1, *SHAPE)


def test_k_steps_are_k_calls_per_block(denoiser: Denoiser) -> None:
    before = denoiser.calls
    sample(denoiser, Ddim(), SCHEDULE, range(ROWS), 0, SHAPE)
    assert denoiser.calls - before == SCHEDULE.steps
    sample(denoiser, Ddim(), SCHEDULE, [0, ROWS], 0, SHAPE)
    assert denoiser.calls - before == 3 * SCHEDULE.steps


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_saved_images_are_the_nearest_grey_levels(levels: int) -> None:
    images = torch.linspace(-1.5, 1.5, 1001, dtype=torch.float64)
    saved = to_grey_levels(images, levels)
    allowed = torch.arange(levels, dtype=torch.float64) / (levels - 1) * 2 - 1
    distance = (images[:, None] - allowed).abs()
    torch.testing.assert_close((images - saved).abs(), distance.min(1).values, rtol=0, atol=1e-12)
    assert (saved[:, None] - allowed).abs().min(1).values.max() < 1e-12
    torch.testing.assert_close(to_grey_levels(allowed, levels), allowed, rtol=0, atol=1e-12)
