"""Labels reach the network wherever images go: with the exact denoiser of Gaussian classes only they give e(t).

Class k's images are N(μ_k, c² I). Given k the exact denoiser errs as that of N(0, c² I) on the same deviations and
noises, D c² σ²/(α² c² + σ²) on average; told another class, or none, it errs by far more.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from fewstep.data.base import checked_labels
from fewstep.data.digits import Digits
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.find_schedule import find_schedule
from fewstep.judging.finetuning import denoising_errors, series_of
from fewstep.losses.simple import SimpleLoss
from fewstep.modules.training import TrainingBatches, TrainingModule, ValidationError
from fewstep.noise import class_labels
from fewstep.objectives.discretization import Discretization
from fewstep.objectives.elbo import ElboObjective
from fewstep.objectives.mse_reweighted import MseReweighted
from fewstep.process import Process
from fewstep.sampling import ROWS, sample
from fewstep.schedule import Schedule
from fewstep.search.between_timesteps import between_timesteps
from fewstep.search.sampled_loss import SampledLoss
from fewstep.solvers.ancestral import Ancestral
from fewstep.solvers.ddim import Ddim
from fewstep.solvers.dpmpp_2m import Dpmpp2M
from fewstep.solvers.heun import Heun
from fewstep.statistics import samples, validation_samples
from fewstep.statistics.denoising_error import DenoisingError, DenoisingErrorEstimator
from fewstep.time_distribution import OnSchedule, UniformTimes

T, C, CLASSES, N, SHAPE = 20, 0.1, 3, 60, (1, 2, 2)
PROCESS = Process.cosine(T, 0.07)
MEANS = torch.tensor([-0.6, 0.0, 0.6], dtype=torch.float64)
SCHEDULE = Schedule.on_grid([0, 3, 11, T], PROCESS)


class GaussianClasses(torch.nn.Module):
    """E[x_0 | x_t, k], as a network that returns x̂_0 and notes the labels that it was given."""

    def __init__(self, num_classes: int | None = CLASSES) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.unused = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, timestep: Tensor, label: Tensor) -> Tensor:
        self.seen.append(label)
        t = (timestep.double() + 1) / T
        alpha, sigma = (f(t)[:, None, None, None] for f in (PROCESS.alpha, PROCESS.sigma))
        mean = MEANS[label][:, None, None, None]
        gain = alpha * C**2 / (alpha.square() * C**2 + sigma.square())
        return mean + gain * (x - alpha * mean) + 0 * self.unused


class Classes:
    """Images of the classes, with their labels."""

    name, shape, levels = "classes", SHAPE, 256

    def deviations(self, split: str) -> Tensor:
        seed = ["train", "validation", "test"].index(split)
        return C * torch.randn(N, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def images(self, split: str) -> Tensor:
        return self.deviations(split) + MEANS[self.labels(split)][:, None, None, None]

    def labels(self, split: str) -> Tensor:
        return torch.arange(N) % CLASSES


class Rounded(Classes):
    """The same on 256 grey levels."""

    def images(self, split: str) -> Tensor:
        return ((super().images(split) + 1) / 2 * 255).round() / 255 * 2 - 1


@pytest.fixture
def denoiser() -> Denoiser:
    return Denoiser(GaussianClasses(), PROCESS, "x0").eval()


def measured(split: str, denoiser: Denoiser, labels: Tensor | None) -> DenoisingError:
    estimator = DenoisingErrorEstimator(
        *(Classes().images(split), labels), split=split, levels=256, indices=range(1, T + 1), seed=2, batch_size=16
    )
    with torch.inference_mode():
        return estimator.collect(PROCESS, [estimator.measure(denoiser, row) for row in range(T)])


@pytest.fixture
def statistics(denoiser: Denoiser) -> DenoisingError:
    return measured("train", denoiser, Classes().labels("train"))


def test_given_the_class_the_error_is_that_of_one_gaussian(
    statistics: DenoisingError, denoiser: Denoiser, perfect_denoiser: Callable[..., Denoiser], measure
) -> None:
    one = measure(Classes().deviations("train"), perfect_denoiser(PROCESS, C**2), levels=256, seed=2)
    torch.testing.assert_close(statistics.error, one.error, rtol=1e-9, atol=0)
    sigma, alpha = PROCESS.sigma(PROCESS.grid[1:]), PROCESS.alpha(PROCESS.grid[1:])
    expected = 4 * C**2 * sigma**2 / (alpha**2 * C**2 + sigma**2)
    torch.testing.assert_close(statistics.error.mean(1), expected, rtol=0.25, atol=0)
    others = measured("train", denoiser, (Classes().labels("train") + 1) % CLASSES)
    assert others.error[-1].mean() > 10 * statistics.error[-1].mean()


@pytest.mark.parametrize("objective", [Discretization(), MseReweighted(), ElboObjective("posterior")], ids=type)
def test_a_search_by_gradient_sees_the_labels(objective, statistics: DenoisingError, denoiser: Denoiser) -> None:
    """Its loss on the samples is the value of the table, image by image; so are its minibatches and its checks."""
    drawn = {}
    for module, split in ((samples, "train"), (validation_samples, "validation")):
        labels = Classes().labels(split)
        estimator = module.Estimator(
            *(Classes().images(split), labels), split=split, levels=256, indices=[1], seed=2, batch_size=8
        )
        drawn[module.KIND] = estimator.collect(PROCESS, [])
    known = {"denoising_error": statistics} | drawn
    loss = SampledLoss(objective, denoiser, known, 10, 0)
    of_validation = {"denoising_error": measured("validation", denoiser, Classes().labels("validation"))}
    expected = objective.image_values(of_validation, SCHEDULE)
    torch.testing.assert_close(loss.of_validation_images(SCHEDULE.times), expected, rtol=1e-6, atol=1e-8)
    assert loss.of_validation(SCHEDULE.times) == pytest.approx(expected.mean().item(), rel=1e-6)
    calls = denoiser.calls
    minibatches = [loss.of_iteration(SCHEDULE.times, i).item() for i in range(N // 10)]
    assert denoiser.calls - calls == SCHEDULE.steps * N // 10
    value = objective.value(known, SCHEDULE)
    assert sum(minibatches) / len(minibatches) == pytest.approx(value, rel=1e-6)
    assert between_timesteps(denoiser, drawn[samples.KIND], 256).wild == []


def test_samples_with_labels_come_back_from_their_file(tmp_path: Path) -> None:
    labels = Classes().labels("train")
    estimator = samples.Estimator(
        *(Classes().images("train"), labels), split="train", levels=256, indices=[1], seed=2, batch_size=8
    )
    estimator.collect(PROCESS, []).save(tmp_path / "file")
    found = samples.load(tmp_path / "file")
    assert found.labels is not None
    assert torch.equal(found.labels, labels)
    assert torch.equal(found.rows(slice(2, 5)).labels, labels[2:5])


@pytest.mark.parametrize("solver", [Ddim(), Ancestral("posterior"), Heun(), Dpmpp2M()], ids=lambda one: one.name)
def test_samples_are_of_classes_that_belong_to_seed_and_index(solver, denoiser: Denoiser) -> None:
    indices = range(ROWS + 40)
    images = sample(denoiser, solver, SCHEDULE, indices, 5, SHAPE)
    nearest = (images.flatten(1).mean(1)[:, None] - MEANS).abs().argmin(1)
    assert torch.equal(nearest, class_labels(5, indices, CLASSES))
    some = [ROWS + 3, 7, 90]
    assert torch.equal(sample(denoiser, solver, SCHEDULE, some, 5, SHAPE), images[some])


def test_classes_are_uniform_and_a_function_of_seed_and_index() -> None:
    drawn = class_labels(3, range(6000), 6)
    counts = torch.bincount(drawn, minlength=6).double()
    assert ((counts - 1000).square() / 1000).sum() < 20.5  # χ² of 5 degrees of freedom, 1 in 1000
    assert torch.equal(class_labels(3, [17, 5999, 0], 6), drawn[[17, 5999, 0]])
    other = class_labels(4, range(6000), 6)
    assert abs((drawn == other).double().mean().item() - 1 / 6) < 4 * (5 / 36 / 6000) ** 0.5


def test_training_and_validation_go_with_labels(denoiser: Denoiser) -> None:
    """The loss of a class's own denoiser is that of one Gaussian, and every image's label comes with the image."""
    images, labels = Classes().images("train").float(), Classes().labels("train")
    batches = TrainingBatches(images, UniformTimes(PROCESS), 8, 0, labels)
    x0, _, _, label = batches.batch(4)
    rows = (x0[:, None] == images).flatten(2).all(2).long().argmax(1)
    assert torch.equal(label, labels[rows])
    validation = ValidationError(Classes().images("validation"), PROCESS.grid[[9]], seed=1, labels=labels)
    sigma, alpha = PROCESS.sigma(PROCESS.grid[9]), PROCESS.alpha(PROCESS.grid[9])
    expected = C**2 * sigma**2 / (alpha**2 * C**2 + sigma**2)
    error = validation.mean(denoiser, torch.device("cpu"), 0)
    assert error == pytest.approx(expected.item(), rel=0.25)
    trained = TrainingModule(
        denoiser, batches, validation, None, learning_rate=1e-3, warmup=0, iterations=2, ema_decay=0.9
    )
    denoiser.backbone.seen.clear()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    pl.Trainer(accelerator="cpu", devices=1, max_steps=2, enable_progress_bar=False, **quiet).fit(trained)
    for given, iteration in zip(denoiser.backbone.seen, range(2), strict=True):
        assert torch.equal(given, batches.batch(iteration)[3])


def test_the_errors_around_tuning_go_with_labels(denoiser: Denoiser, perfect_denoiser) -> None:
    series = series_of(SCHEDULE, OnSchedule.uniform(SCHEDULE), SimpleLoss(), Rounded(), 0, CLASSES)
    found = denoising_errors(series, denoiser, torch.device("cpu"))
    sigma, alpha = PROCESS.sigma(SCHEDULE.times[1:]), PROCESS.alpha(SCHEDULE.times[1:])
    expected = (C**2 * sigma**2 / (alpha**2 * C**2 + sigma**2)).mean().item()
    for key in (("validation", "on"), ("training", "on")):
        assert found[key].mean().item() == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("search", ["dp", "gradient"])
def test_a_schedule_is_found_with_labels(search: str, denoiser: Denoiser) -> None:
    images = Rounded().images("train").float()
    labels = Classes().labels("train")
    found = find_schedule(
        *(denoiser, PROCESS, images, [3], "discretization", search), labels=labels, progress=False
    )
    assert found[3].steps == 3
    with pytest.raises(UserError, match="takes a label of 3 classes with every image, but the argument `images`"):
        find_schedule(denoiser, PROCESS, images, [3], "discretization", search, progress=False)


@pytest.mark.parametrize(
    "labels, sentence",
    [
        (None, r"takes a label of 3 classes with every image, but classes \(train\) has no labels"),
        (torch.arange(N) % 4, r"classes \(train\) run from 0 to 3, but the model has 3 classes"),
        (torch.arange(N) - 1, r"run from -1 to 58, but the model has 3 classes"),
        (torch.arange(N - 1) % 3, r"must be int64 \[60\], one for each image; given was torch.int64 \[59\]"),
        (torch.ones(N), r"must be int64 \[60\], one for each image; given was torch.float32 \[60\]"),
    ],
    ids=["none", "too many", "negative", "too few", "no whole numbers"],
)
def test_labels_that_do_not_fit(labels: Tensor | None, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Classes()
    monkeypatch.setattr(dataset, "labels", lambda split: labels)
    monkeypatch.setattr(dataset, "images", lambda split: torch.zeros(N, *SHAPE))
    with pytest.raises(UserError, match=sentence):
        checked_labels(dataset, "train", 3)
    assert checked_labels(dataset, "train", None) is None


def test_a_network_says_of_how_many_classes_it_is(small_unet) -> None:
    assert Denoiser(small_unet(num_classes=10), PROCESS, "edm").num_classes == 10
    assert Denoiser(small_unet(), PROCESS, "edm").num_classes is None
    assert Denoiser(lambda x, time: x, PROCESS, "edm").num_classes is None
    assert len(Digits().labels("train")) == 1257
