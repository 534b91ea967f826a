"""The gradient search in five lines: a quarter of the images is held out, and the statistics are of the others."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import fewstep
from fewstep.artefacts.statistics import estimator_class
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.dp import Dp
from fewstep.search.gradient import Gradient

T = 40
PROCESS = Process.cosine(T, 0.07)


@pytest.fixture
def denoiser(perfect_denoiser: Callable[..., Denoiser]) -> Denoiser:
    return perfect_denoiser(PROCESS, 0.3)


def search(denoiser: Denoiser, images: Tensor, **more: Any) -> dict[int, Schedule]:
    options: dict[str, Any] = {"steps": [3], "levels": 17, "progress": False, "timesteps": "all"} | more
    return fewstep.find_schedule(denoiser, PROCESS, images, **options)


def test_it_is_the_search_on_the_first_images_with_the_last_quarter_as_validation(
    denoiser: Denoiser, grey_images: Callable[..., Tensor]
) -> None:
    images = grey_images(14)
    statistics = {}
    splits = {"denoising_error": "train", "samples": "train", "validation_samples": "validation"}
    for kind, split in splits.items():
        chosen = images[:11] if split == "train" else images[11:]
        estimator = estimator_class(kind)(
            chosen, None, split=split, levels=17, indices=range(1, T + 1), seed=6, batch_size=128
        )
        with torch.inference_mode():
            rows = [estimator.measure(denoiser, row) for row in range(len(estimator))]
        statistics[kind] = estimator.collect(PROCESS, rows)
    expected = Gradient()(ElboObjective(), statistics, denoiser, [3])[3]
    found = search(denoiser, images, search="gradient", seed=6)[3]
    assert found == expected
    assert found.provenance["found"]["optimality_gap"]["n_images"] == 3
    assert found.provenance["found"]["starts"] == pytest.approx(expected.provenance["found"]["starts"], rel=1e-9)


def test_only_a_search_that_needs_it_holds_images_out(
    denoiser: Denoiser, grey_images: Callable[..., Tensor]
) -> None:
    images = grey_images(16)
    before = denoiser.evaluations
    search(denoiser, images, search=Dp())
    assert denoiser.evaluations - before == 16 * T


def test_too_few_images_to_hold_some_out_are_refused(
    denoiser: Denoiser, grey_images: Callable[..., Tensor]
) -> None:
    with pytest.raises(UserError, match="needs at least 8; given were 7"):
        search(denoiser, grey_images(7), search="gradient")


def test_every_call_gets_the_labels_of_its_images(grey_images: Callable[..., Tensor]) -> None:
    images = grey_images(8)
    labels, seen = torch.arange(8), set()

    def network(x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        assert label.shape == (len(x),)
        seen.update(label.tolist())
        return 0.5 * x

    search(Denoiser(network, PROCESS, "x0"), images, search="gradient", labels=labels)
    assert seen == set(range(8))  # those that are held out for validation too


def test_a_network_that_gives_no_gradient_is_refused(grey_images: Callable[..., Tensor]) -> None:
    network = torch.no_grad()(torch.nn.Conv2d(1, 1, 1))
    with pytest.raises(UserError, match=r"no gradient.*search=dp"):
        fewstep.find_schedule(
            lambda x, time: network(x),
            PROCESS,
            grey_images(8),
            [3],
            search="gradient",
            parameterisation="x0",
            levels=17,
            progress=False,
        )


@pytest.mark.parametrize("wanted", ["dp", "gradient"])
def test_a_function_around_a_network_is_called_in_the_networks_float32(
    wanted: str, grey_images: Callable[..., Tensor]
) -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv2d(1, 1, 3, padding=1)
    options: dict[str, Any] = {"search": wanted, "parameterisation": "x0", "levels": 17, "progress": False}
    alone = fewstep.find_schedule(lambda x, time: network(x), PROCESS, grey_images(8).float(), [3], **options)
    assert alone[3].steps == 3
