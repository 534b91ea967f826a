"""Statistics of images in blocks against those of all images at once."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewstep.data import base
from fewstep.denoiser import Denoiser
from fewstep.find_schedule import find_schedule
from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.statistics.clipped_denoising_error import ClippedDenoisingErrorEstimator
from fewstep.statistics.denoising_error import DenoisingErrorEstimator
from fewstep.statistics.image_sums import DenoisingError
from fewstep.statistics.streaming import StreamedEstimator, estimator_of

PROCESS = Process.cosine(12, 1 / 16)
N, BLOCK = 23, 5
DECODERS = {"denoising_error": "additive", "clipped_denoising_error": "improved_diffusion"}


def network(x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
    """Two heads; with labels the mean depends on them."""
    mean = torch.tanh(x) / (1 + time.reshape(-1, 1, 1, 1) / 20)
    if label is not None:
        mean = mean + label.reshape(-1, 1, 1, 1) / 10
    return torch.cat([mean, torch.sin(3 * x)], 1)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "BLOCK_BYTES", BLOCK * 4 * 8)


def measured(estimator, denoiser: Denoiser) -> DenoisingError:
    with torch.inference_mode():
        rows = [estimator.measure(denoiser, row) for row in range(len(estimator))]
        return estimator.collect(PROCESS, rows)


@pytest.mark.parametrize("kind", [DenoisingErrorEstimator, ClippedDenoisingErrorEstimator])
@pytest.mark.parametrize("noise", ["common", "fresh"])
@pytest.mark.parametrize("fitted", [False, True], ids=["own fit", "fitted elsewhere"])
def test_blocks_give_what_all_images_at_once_give(
    kind, noise: str, fitted: bool, grey_images: Callable[..., Tensor]
) -> None:
    denoiser, images, indices = Denoiser(network, PROCESS, "x0"), grey_images(N), [1, 4, 9, 12]
    labels = torch.arange(N) % 3
    make = partial(kind, split="train", levels=17, seed=3, batch_size=4, noise=noise)
    if fitted:
        other = measured(make(grey_images(7, seed=1), None, indices=indices), denoiser)
        make = partial(make, fitted=other)
    streamed = estimator_of(make, images, labels, indices=indices)
    assert isinstance(streamed, StreamedEstimator)
    whole, once = (measured(one, denoiser) for one in (streamed, make(images, labels, indices=indices)))
    assert torch.equal(whole.indices, once.indices)
    torch.testing.assert_close(whole.error, once.error, rtol=1e-12, atol=0)
    torch.testing.assert_close(whole.fitted_error, once.fitted_error, rtol=1e-12, atol=0)
    torch.testing.assert_close(whole.prior, once.prior, rtol=1e-12, atol=0)
    torch.testing.assert_close(whole.decoder_of_process, once.decoder_of_process, rtol=1e-12, atol=0)
    torch.testing.assert_close(whole.decoder_of_error, once.decoder_of_error, rtol=2e-6, atol=1e-9)
    s, t, rows = PROCESS.grid[[1, 4, 9]], PROCESS.grid[[4, 9, 12]], torch.tensor([1, 2, 3])
    one, two = (each.fraction_sums().step_nats(PROCESS, s, t, rows) for each in (whole, once))
    torch.testing.assert_close(one, two, rtol=3e-6, atol=1e-9)
    assert (whole.calls, whole.n_images, whole.split) == (once.calls, N, "train")


@pytest.mark.parametrize("kind", [DenoisingErrorEstimator, ClippedDenoisingErrorEstimator])
@pytest.mark.parametrize("n", [BLOCK, N], ids=["at once", "block by block"])
def test_means_make_the_table_that_the_sums_of_every_image_make(
    kind, n: int, grey_images: Callable[..., Tensor], tmp_path: Path
) -> None:
    denoiser, images, indices = Denoiser(network, PROCESS, "x0"), grey_images(n), range(1, 13)
    make = partial(kind, split="train", levels=17, seed=3, batch_size=4)
    every = measured(make(images, None, indices=indices), denoiser)
    means = measured(estimator_of(make, images, None, indices=indices, means=True), denoiser)
    means.save(tmp_path / "means")
    means = DenoisingError.load(tmp_path / "means", kind.kind)
    assert means.error.shape == (12, 1)
    assert (means.n_images, means.calls) == (n, every.calls)
    torch.testing.assert_close(means.spread, every.error.std(1), rtol=1e-9, atol=0)
    for variance in ("posterior", "optimal", "learned"):
        objective = ElboObjective(variance, DECODERS[kind.kind])
        table, expected = (objective.edge_costs({kind.kind: one}) for one in (means, every))
        torch.testing.assert_close(table.costs, expected.costs, rtol=3e-6, atol=1e-9)
        if expected.first_pairs is not None:
            torch.testing.assert_close(table.first_pairs, expected.first_pairs, rtol=3e-6, atol=1e-9)


def test_what_fits_a_block_is_measured_at_once(grey_images: Callable[..., Tensor]) -> None:
    make = partial(DenoisingErrorEstimator, split="train", levels=17, seed=3, batch_size=4)
    assert isinstance(estimator_of(make, grey_images(BLOCK), None, indices=[3]), DenoisingErrorEstimator)


def test_a_schedule_of_many_images_is_that_of_all_at_once(
    grey_images: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = partial(
        find_schedule,
        *(network, PROCESS, grey_images(N).float(), [2, 4]),
        parameterisation="x0",
        levels=17,
        timesteps="all",
        progress=False,
    )
    streamed = ask()
    monkeypatch.undo()
    for K, schedule in ask().items():
        assert torch.equal(schedule.times, streamed[K].times)
