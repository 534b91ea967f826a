"""Five lines for somebody with a model: any callable, names or instances, and the pipeline's own answer."""

import importlib.util
import io
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fewstep
from fewstep.__main__ import main
from fewstep.data.digits import Digits
from fewstep.denoiser import Denoiser
from fewstep.discovery import find
from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.dp import Dp, optimal_paths
from fewstep.search.even import Even
from fewstep.search.karras import Karras
from fewstep.statistics.covariance import DataCovariance
from fewstep.statistics.denoising_error import KIND, DenoisingError, DenoisingErrorEstimator
from fewstep.weights import load_model

T = 20
PROCESS = Process.cosine(T, 1 / 16)
IMAGES = Digits().images("train")[:12]
COVARIANCE = DataCovariance.of(Digits().images("train"))


def wiener(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The best linear denoiser, μ + C α (α² C + σ² I)^{-1} (x_t − α μ)."""
    alpha, sigma = alpha[:, None], sigma[:, None]
    gain = alpha * COVARIANCE.eigenvalues / (alpha**2 * COVARIANCE.eigenvalues + sigma**2)
    centred = (x.double().flatten(1) - alpha * COVARIANCE.mean) @ COVARIANCE.eigenvectors
    return (COVARIANCE.mean + (gain * centred) @ COVARIANCE.eigenvectors.T).reshape(x.shape)


def network(parameterisation: str) -> Callable[[Tensor, Tensor], Tensor]:
    """That denoiser as somebody else's network would state it, OpenAI's timesteps 0 … T − 1 (ln σ̄/4 for edm)."""

    def call(x: Tensor, time: Tensor) -> Tensor:
        if parameterisation == "edm":
            # x is c_in z with z = x_t/α and c_in = 1/√(σ̄² + σ_d²); σ_d = 1/2.
            level = torch.exp(4 * time.double())
            total = level**2 + 0.25
            z = x.double() * total.sqrt()[:, None, None, None]
            x0 = wiener(z, torch.ones_like(level), level)
            skip, out = 0.25 / total, level * 0.5 / total.sqrt()
            return ((x0 - skip[:, None, None, None] * z) / out[:, None, None, None]).to(x)
        t = (time.double() + 1) / T
        alpha, sigma = PROCESS.alpha(t), PROCESS.sigma(t)
        x0 = wiener(x, alpha, sigma)
        a, s = alpha[:, None, None, None], sigma[:, None, None, None]
        eps = (x.double() - a * x0) / s
        return {"x0": x0, "eps": eps, "v": a * eps - s * x0}[parameterisation].to(x)

    return call


def search(denoiser: Any, **more: Any) -> dict[int, Schedule]:
    options = {"steps": [1, 4, T], "levels": 17, "progress": False} | more
    return fewstep.find_schedule(
        denoiser, options.pop("process", PROCESS), options.pop("images", IMAGES), **options
    )


@pytest.fixture(scope="module")
def expected() -> dict[int, Schedule]:
    """The table by the formulas' own code, and its optimal paths."""
    denoiser = Denoiser(network("x0"), PROCESS, "x0")
    estimator = DenoisingErrorEstimator(
        IMAGES, None, split="train", levels=17, indices=range(1, T + 1), seed=0, batch_size=5
    )
    measured = estimator.collect(PROCESS, [estimator.measure(denoiser, row) for row in range(T)])
    table = ElboObjective().edge_costs({KIND: measured})
    return {K: Schedule.on_grid(path, PROCESS) for K, path in optimal_paths(table.costs, [1, 4, T]).items()}


@pytest.mark.parametrize("parameterisation", ["eps", "v", "x0", "edm"])
def test_any_callable_with_its_parameterisation_stated(
    parameterisation: str, expected: dict[int, Schedule]
) -> None:
    assert search(network(parameterisation), parameterisation=parameterisation) == expected


def test_a_denoiser_states_its_own(expected: dict[int, Schedule]) -> None:
    assert search(Denoiser(network("eps"), PROCESS, "eps")) == expected


def test_names_and_instances_are_the_same(expected: dict[int, Schedule]) -> None:
    named = search(network("x0"), parameterisation="x0", objective="elbo", search="dp")
    built = search(network("x0"), parameterisation="x0", objective=ElboObjective("optimal"), search=Dp())
    assert named == built == expected


def test_another_variance_is_another_objective(expected: dict[int, Schedule]) -> None:
    beta = search(network("x0"), parameterisation="x0", objective=ElboObjective("beta"))
    assert beta[4] != expected[4]
    assert beta[T] == expected[T]


def test_the_batch_size_changes_nothing(expected: dict[int, Schedule]) -> None:
    for batch_size in (1, 7, 1000):
        assert search(network("x0"), parameterisation="x0", batch_size=batch_size) == expected


@pytest.mark.parametrize("objective", ["elbo", None])
def test_a_fixed_rule_calls_no_network(objective: str | None) -> None:
    def untouched(x: Tensor, time: Tensor) -> Tensor:
        raise AssertionError("called")

    by_name = search(untouched, parameterisation="eps", objective=objective, search="even")
    assert by_name == search(untouched, parameterisation="eps", objective=objective, search=Even())
    assert by_name[4].indices == [0, 5, 10, 15, 20]
    karras = search(untouched, parameterisation="eps", objective=None, search=Karras(levels=17))
    assert karras[T].indices == list(range(T + 1))


def test_the_network_is_called_once_per_image_and_timestep() -> None:
    denoiser = Denoiser(network("x0"), PROCESS, "x0")
    search(denoiser, batch_size=5)
    assert denoiser.evaluations == 12 * T
    assert denoiser.calls == 3 * T


def test_labels_reach_the_network() -> None:
    labels, seen = torch.arange(12), []

    def conditional(x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        seen.append(label)
        return network("x0")(x, time)

    search(conditional, parameterisation="x0", labels=labels, batch_size=5)
    assert torch.equal(torch.cat(seen), labels.repeat(T))


class Dropping(nn.Module):
    """A network that behaves otherwise in training."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        return self.scale * network("x0")(x, time)


def test_a_network_in_training_is_measured_in_evaluation_and_left_as_it_was(expected: dict[int, Schedule]) -> None:
    model = Dropping().train()
    assert search(model, parameterisation="x0") == expected
    assert model.training


def test_a_network_in_evaluation_is_left_in_it_too(expected: dict[int, Schedule]) -> None:
    model = Dropping().eval()
    assert search(model, parameterisation="x0") == expected
    assert not model.training


def test_every_module_is_left_in_its_own_mode_even_by_a_failure() -> None:
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = nn.BatchNorm2d(1).eval()

        def forward(self, x: Tensor, time: Tensor) -> Tensor:
            raise RuntimeError("out of memory")

    model = Failing()
    with pytest.raises(RuntimeError, match="out of memory"):
        search(model, parameterisation="x0")
    assert model.training
    assert not model.frozen.training


@pytest.mark.parametrize(
    "steps", [range(1, 4), {1, 2, 3}, np.arange(1, 4), torch.arange(1, 4), (k for k in (1, 2, 3))]
)
def test_steps_may_be_any_whole_numbers(steps: Any, expected: dict[int, Schedule]) -> None:
    found = search(network("x0"), parameterisation="x0", steps=steps)
    assert [*found] == [1, 2, 3]
    assert all(type(K) is int for K in found)
    assert found[1] == expected[1]


def test_a_progress_bar_is_shown_unless_it_is_not_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    search(network("x0"), parameterisation="x0", progress=True)
    assert f"{T}/{T}" in capsys.readouterr().err
    search(network("x0"), parameterisation="x0")
    assert capsys.readouterr().err == ""


# The pipeline


@contextmanager
def quiet() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield
    root.handlers[:], root.level = handlers, level


def test_it_is_the_pipelines_own_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        *("stage=search", f"outputs={tmp_path}", "schedule_optimizer=elbo_dp", "steps=[1,4,8]", "process.T=40"),
        *("finetune=none", "model.backbone.model_channels=8", "model.backbone.num_groups=2"),
        *("pretrain.iterations=3", "pretrain.batch_size=16", "statistics.images=12", "statistics.batch_size=5"),
    ]
    monkeypatch.setattr(sys, "argv", ["fewstep", *words])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    with quiet():
        main()
    (weights,) = (tmp_path / "digits" / "pretrain").iterdir()
    (searched,) = (tmp_path / "digits" / "search").iterdir()
    (statistics,) = tmp_path.glob("digits/statistics/*/statistics.safetensors")
    denoiser = load_model(weights)
    images = Digits().images("train")[:12]
    found = fewstep.find_schedule(
        denoiser, denoiser.process, images, steps=[1, 4, 8], levels=17, batch_size=5, progress=False
    )
    assert found == {K: Schedule.load(searched / "schedules" / f"elbo_dp_k{K:03d}.json") for K in (1, 4, 8)}
    table = ElboObjective("optimal").edge_costs({KIND: DenoisingError.load(statistics)})
    assert {K: schedule.indices for K, schedule in found.items()} == optimal_paths(table.costs, [1, 4, 8])


# The example


@pytest.fixture(scope="module")
def own_model() -> ModuleType:
    path = Path(__file__).parents[1] / "examples" / "own_model.py"
    spec = importlib.util.spec_from_file_location("own_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_runs(own_model: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    schedules = own_model.main(iterations=60, T=30)
    assert [*schedules] == [4, 8, 16]
    printed = capsys.readouterr().out.splitlines()
    for line, (K, schedule) in zip(printed, schedules.items(), strict=True):
        assert line.split(" steps: timesteps ") == [f"{K:3d}", str(schedule.timesteps())]
        assert len(schedule.timesteps()) == K
        assert schedule.timesteps()[0] == 29


def test_the_examples_network_learns(own_model: ModuleType) -> None:
    process, images = Process.cosine(30, 1 / 16), Digits().images("train")

    def error(net: nn.Module) -> float:
        denoiser = Denoiser(net, process, "eps")
        t = process.grid[15]
        noise = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            return (images[:64] - denoiser(process.add_noise(images[:64], t, noise), t).x0).square().mean().item()

    torch.manual_seed(0)
    net = own_model.TinyNetwork()
    before = error(net)
    own_model.train(net, process, images, 100)
    assert error(net) < 0.5 * before


# Discovery


def test_methods_are_found_by_their_word() -> None:
    assert find("search", "dp") is Dp
    assert find("search", "karras") is Karras
    assert find("objectives", "elbo") is ElboObjective


@pytest.mark.parametrize(
    "package, name, sentence",
    [
        ("search", "evn", "There is no search 'evn'; did you mean 'even'.* Allowed: .*dp, even, .*"),
        ("objectives", "bpd", "There is no objective 'bpd'.*Allowed: .*elbo"),
        ("solvers", "ddmi", "There is no solver 'ddmi'; did you mean 'ddim'.* Allowed: ancestral, ddim"),
    ],
)
def test_an_unknown_word_is_told_what_there_is(package: str, name: str, sentence: str) -> None:
    with pytest.raises(fewstep.UserError, match=sentence):
        find(package, name)
