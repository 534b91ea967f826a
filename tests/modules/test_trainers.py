"""The network runs in the trainer's precision, in every kind of work; what is made of its output does not."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from fewstep.artefacts.extractors.classifier import EXTRACTOR, ClassifierExtractor
from fewstep.artefacts.features import Features
from fewstep.artefacts.statistics import StatisticsSettings, statistics_of
from fewstep.backbones.blocks import ResBlock
from fewstep.backbones.unet import UNet
from fewstep.data.digits import Digits
from fewstep.denoiser import Denoiser
from fewstep.metrics.frechet import FrechetDistance
from fewstep.modules.sampling import SampledBlocks, SamplingModule
from fewstep.modules.sharing import predict_rows, row_loader
from fewstep.modules.statistics import StatisticsModule, measured_rows
from fewstep.modules.trainers import HalfNetwork, precision_of, with_half_networks
from fewstep.modules.training import TrainingBatches, TrainingModule, ValidationError
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.solvers.ddim import Ddim
from fewstep.statistics.denoising_error import KIND, DenoisingErrorEstimator
from fewstep.time_distribution import UniformTimes

PROCESS = Process.cosine(12, 1 / 16)
SCHEDULE = Schedule.on_grid([0, 3, 7, 12], PROCESS)
QUIET = {
    "enable_model_summary": False,
    "enable_progress_bar": False,
    "enable_checkpointing": False,
    "logger": False,
}
LOWER = ["bf16-mixed", "bf16-true"]
EXPECTED = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "bf16-true": torch.bfloat16}


def trainers(precision: str) -> Callable[..., pl.Trainer]:
    made = partial(pl.Trainer, accelerator="cpu", devices=1, precision=precision, **QUIET)
    return with_half_networks(made)


class Types:
    """The types that convolutions returned: of the UNet, and of the classifier that judges."""

    def __init__(self) -> None:
        self.network: set[torch.dtype] = set()
        self.judge: set[torch.dtype] = set()

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        if isinstance(module, ResBlock):
            self.network.add(output.dtype)
        elif isinstance(module, nn.MaxPool2d):
            self.judge.add(output.dtype)


@pytest.fixture
def types() -> Iterator[Types]:
    found = Types()
    handle = nn.modules.module.register_module_forward_hook(found)
    yield found
    handle.remove()


@pytest.fixture
def denoiser(small_unet: Callable[..., UNet], randomised: Callable[[UNet, float], UNet]) -> Denoiser:
    return Denoiser(randomised(small_unet(), 0.1), PROCESS, "edm").eval()


@pytest.mark.parametrize("precision", ["32-true", *LOWER])
def test_statistics(precision: str, denoiser: Denoiser, types: Types) -> None:
    images = Digits().images("train")[:6]
    estimator = DenoisingErrorEstimator(
        *(images, None), split="train", levels=17, indices=range(1, 13), seed=0, batch_size=4
    )
    torch.set_num_threads(2)  # rows are measured in threads of their own, which no context of the trainer reaches
    try:
        rows = measured_rows(trainers(precision)(), StatisticsModule(denoiser, estimator))
    finally:
        torch.set_num_threads(1)
    assert types.network == {EXPECTED[precision]}
    assert torch.get_default_dtype() == torch.float32
    assert all(value.dtype == torch.float64 for row in rows for value in row.values())
    found = estimator.collect(PROCESS, rows)
    assert bool(torch.isfinite(found.error).all())


@pytest.mark.parametrize("precision", ["32-true", *LOWER])
def test_sampling_and_its_judge(precision: str, denoiser: Denoiser, types: Types, features: Features) -> None:
    made = trainers(precision)
    module = SampledBlocks(denoiser, Ddim(), SCHEDULE, 5, 0, (1, 8, 8))
    images = torch.cat(predict_rows(made(), module, module.blocks))
    assert (images.dtype, types.network) == (torch.float64, {EXPECTED[precision]})
    before = {name: tensor.clone() for name, tensor in features.extractor.state_dict().items()}
    distance = FrechetDistance(features.reference)
    module = SamplingModule(
        *(denoiser, Ddim(), SCHEDULE, features.extractor, [distance]),
        n_images=20,
        batch_size=128,
        seed=0,
        shape=(1, 8, 8),
        levels=17,
    )
    made().test(module, row_loader(module.blocks), verbose=False)
    assert types.network == {EXPECTED[precision]}
    assert types.judge == {torch.float32}
    assert distance.total.dtype == torch.float64
    assert all(torch.equal(tensor, before[name]) for name, tensor in features.extractor.state_dict().items())


@pytest.mark.parametrize("precision", ["32-true", *LOWER])
def test_training(precision: str, denoiser: Denoiser, types: Types) -> None:
    times = UniformTimes(PROCESS)
    drawn: list[Tensor] = []
    plain = times.draw
    times.draw = lambda quantiles: drawn.append(quantiles) or plain(quantiles)  # type: ignore[method-assign,func-returns-value]
    batches = TrainingBatches(Digits().images("train"), times, 8, 0)
    validation = ValidationError(Digits().images("validation")[:4], PROCESS.grid[[3]], 0)
    before = [weight.clone() for weight in denoiser.parameters()]
    module = TrainingModule(
        denoiser.train(), batches, validation, None, learning_rate=1e-2, warmup=0, iterations=3, ema_decay=0.99
    )
    trainers(precision)(max_steps=3).fit(module)
    assert EXPECTED[precision] in types.network
    half = precision == "bf16-true"
    assert {weight.dtype for weight in denoiser.parameters()} == {torch.bfloat16 if half else torch.float32}
    averaged = list(module.averaged_denoiser.parameters())
    assert {weight.dtype for weight in averaged} == {torch.float32}
    assert any(not torch.equal(one, other) for one, other in zip(before, averaged, strict=True))
    assert all(quantiles.dtype == torch.float64 for quantiles in drawn)
    assert len(drawn) == 3


def test_the_average_moves_where_half_precision_would_not(denoiser: Denoiser) -> None:
    """By a thousandth of the difference: bfloat16 would round it away."""
    batches = TrainingBatches(Digits().images("train"), UniformTimes(PROCESS), 8, 0)
    validation = ValidationError(Digits().images("validation")[:4], PROCESS.grid[[3]], 0)
    module = TrainingModule(
        denoiser, batches, validation, None, learning_rate=1e-2, warmup=0, iterations=3, ema_decay=0.999
    )
    module.averaged.update_parameters(module.denoiser)
    HalfNetwork("bf16-true").convert_module(module)
    averaged = [weight.clone() for weight in module.averaged_denoiser.parameters()]
    for weight in module.denoiser.parameters():
        weight.data.add_(0.25)
    module._set_decay(0.999)
    module.averaged.update_parameters(module.denoiser)
    now = module.averaged_denoiser.parameters()
    for before, after, weight in zip(averaged, now, module.denoiser.parameters(), strict=True):
        torch.testing.assert_close(after, before + 1e-3 * (weight.float() - before))
        assert not torch.equal(before, after)


@pytest.mark.parametrize("precision", LOWER)
def test_the_judge_is_trained_in_float32_always(precision: str, tmp_path: Path, types: Types) -> None:
    judge = ClassifierExtractor(epochs=1, width=4, num_features=6, batch_size=400)
    judge.make(tmp_path, Digits(), {"name": "digits"}, trainers(precision))
    assert types.judge == {torch.float32}
    (made,) = tmp_path.glob(f"*/{EXTRACTOR}")
    other = judge.make(tmp_path / "other", Digits(), {"name": "digits"}, trainers("32-true"))
    assert made.read_bytes() == (other / EXTRACTOR).read_bytes()


def test_statistics_of_another_precision_have_a_folder_of_their_own(
    tmp_path: Path, save_small_model: Callable[..., Path]
) -> None:
    weights = save_small_model(tmp_path / "weights", PROCESS)
    settings = StatisticsSettings(images=4)
    paths = {
        precision: statistics_of(
            *(KIND, tmp_path, weights, Digits(), {"name": "digits"}, settings, trainers(precision)),
            arithmetic={"precision": precision},
            indices=[3],
        )
        for precision in EXPECTED
    }
    assert len(set(paths.values())) == len({path.read_bytes() for path in paths.values()}) == 3


@pytest.mark.parametrize("given", [None, 32, "32", "32-true"])
def test_names_of_float32(given: Any) -> None:
    assert precision_of({"precision": given}) == "32-true" == precision_of({})
    assert precision_of({"precision": "16-mixed"}) == "16-mixed"
