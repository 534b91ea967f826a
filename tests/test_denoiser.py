"""What a network's output means: from the right output every parameterisation recovers x_0."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fewstep.denoiser import (
    Denoiser,
    EdmParameterisation,
    EpsParameterisation,
    Parameterisation,
    VParameterisation,
    X0Parameterisation,
)
from fewstep.errors import UserError
from fewstep.process import Process

INDICES = [1, 2, 11, 40]


def pair(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images and noise, float64 [4, 2, 3, 3]."""
    generator = torch.Generator().manual_seed(seed)
    x0, noise = torch.randn(2, 4, 2, 3, 3, generator=generator, dtype=torch.float64)
    return x0, noise


class Recorder:
    """A network that keeps what it was given and returns what it was told to."""

    def __init__(self, output: Tensor | None = None) -> None:
        self.output = output

    def __call__(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        self.x, self.time, self.label = x, time, label
        return torch.zeros_like(x) if self.output is None else self.output


def test_the_true_noise_gives_the_data(any_process: Process) -> None:
    x0, noise = pair()
    t = any_process.grid[INDICES]
    denoiser = Denoiser(Recorder(noise), any_process, "eps")
    recovered = denoiser(any_process.add_noise(x0, t, noise), t).x0
    level = any_process.noise_level(t).max().item()
    torch.testing.assert_close(recovered, x0, rtol=0, atol=1e-14 * level + 1e-12)


def test_the_true_velocity_gives_the_data() -> None:
    process = Process.cosine(40)
    x0, noise = pair()
    t = process.grid[INDICES]
    alpha, sigma = process.alpha(t)[:, None, None, None], process.sigma(t)[:, None, None, None]
    denoiser = Denoiser(Recorder(alpha * noise - sigma * x0), process, "v")
    torch.testing.assert_close(denoiser(process.add_noise(x0, t, noise), t).x0, x0)


def test_v_needs_a_variance_preserving_process() -> None:
    denoiser = Denoiser(Recorder(), Process.edm(40), "v")
    with pytest.raises(UserError, match="variance-preserving"):
        denoiser(torch.zeros(1, 1, 2, 2), torch.tensor(1.0))


def test_x0_is_the_output_itself(any_process: Process) -> None:
    x0, noise = pair()
    prediction = Denoiser(Recorder(x0), any_process, "x0")(noise, any_process.grid[5])
    assert torch.equal(prediction.x0, x0)
    assert prediction.fraction is None


@pytest.mark.parametrize("sigma_data", [0.2, 0.5, 1.0])
def test_edm_is_table_1_of_karras_et_al(any_process: Process, sigma_data: float) -> None:
    """Its target (x_0 − c_skip z)/c_out gives x_0 back; inputs and targets have unit variance."""
    x0, noise = pair()
    n = 100_000
    for index in INDICES:
        t = any_process.grid[index]
        sigma = any_process.noise_level(t).item()
        skip = sigma_data**2 / (sigma**2 + sigma_data**2)
        out = sigma * sigma_data / math.sqrt(sigma**2 + sigma_data**2)
        recorder = Recorder((x0 - skip * (x0 + sigma * noise)) / out)
        denoiser = Denoiser(recorder, any_process, EdmParameterisation(sigma_data))
        recovered = denoiser(any_process.add_noise(x0, t, noise), t).x0
        torch.testing.assert_close(recovered, x0, rtol=0, atol=1e-9)
        expected = (x0 + sigma * noise) / math.sqrt(sigma**2 + sigma_data**2)
        torch.testing.assert_close(recorder.x, expected, rtol=1e-9, atol=1e-12)
        assert recorder.time.tolist() == pytest.approx([math.log(sigma) / 4] * 4, rel=1e-9)
        data, eps = sigma_data * torch.randn(2, n, generator=torch.Generator().manual_seed(1)) * torch.ones(2, 1)
        target = (data - skip * (data + sigma * eps / sigma_data)) / out
        assert target.var().item() == pytest.approx(1, abs=5 * math.sqrt(2 / n))


def test_edm_does_not_see_how_the_process_scales() -> None:
    """At the same σ/α a variance-preserving process and α = 1 give the same x̂_0."""
    x0, noise = pair()
    exploding, preserving = Process.edm(40, 0.05, 20), Process.linear(40, 0.05)
    network = nn.Conv2d(2, 2, 3, padding=1).double()
    s = exploding.grid[20]
    t = preserving.time_of_log_snr(exploding.log_snr(s))
    parameterisation = EdmParameterisation(0.7)

    def predict(process: Process, time: Tensor) -> Tensor:
        denoiser = Denoiser(lambda x, level: network(x) * level[:, None, None, None], process, parameterisation)
        return denoiser(process.add_noise(x0, time, noise), time).x0

    torch.testing.assert_close(predict(exploding, s), predict(preserving, t), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("make", [EpsParameterisation, VParameterisation, X0Parameterisation])
def test_networks_are_given_openais_timestep(make: Callable[..., Parameterisation]) -> None:
    """Grid index n is timestep n − 1, × 1000/T where rescaled; the input is not scaled."""
    process = Process.cosine(40)
    x_t, _ = pair()
    for rescale, factor in ((False, 1), (True, 25)):
        recorder = Recorder()
        Denoiser(recorder, process, make(rescale_timesteps=rescale))(x_t, process.grid[INDICES])
        assert recorder.time.tolist() == pytest.approx([factor * (n - 1) for n in INDICES], abs=1e-9)
        assert torch.equal(recorder.x, x_t)


@pytest.mark.parametrize("name", ["eps", "v", "x0", "edm"])
def test_the_loss_weight_makes_the_error_that_of_the_output(name: str) -> None:
    """‖F − F*‖² = loss_weight ‖x̂_0 − x_0‖² for any two outputs F, F*."""
    process = Process.cosine(40, 1 / 16)
    first, second = pair()
    x_t, _ = pair(seed=1)
    t = process.grid[INDICES]
    predictions = [Denoiser(Recorder(output), process, name)(x_t, t).x0 for output in (first, second)]
    error = (predictions[0] - predictions[1]).square().flatten(1).sum(1)
    expected = (first - second).square().flatten(1).sum(1)
    torch.testing.assert_close(Denoiser(Recorder(), process, name).loss_weight(t) * error, expected)


def test_the_loss_weight_of_edm_is_the_published_one() -> None:
    process = Process.edm(40)
    sigma = process.noise_level(process.grid[1:])
    weight = Denoiser(Recorder(), process, "edm").loss_weight(process.grid[1:])
    torch.testing.assert_close(weight, (sigma**2 + 0.25) / (sigma * 0.5) ** 2)


def test_a_scalar_time_is_every_images_time(perfect_denoiser) -> None:
    process = Process.cosine(40)
    x_t, _ = pair()
    denoiser = perfect_denoiser(process, 0.3)
    together = denoiser(x_t, process.grid[9]).x0
    assert torch.equal(together, denoiser(x_t, process.grid[9].expand(4)).x0)
    mixed = denoiser(x_t, process.grid[[9, 20, 30, 40]]).x0
    assert torch.equal(mixed[0], together[0])
    assert not torch.equal(mixed[1], together[1])


def test_calls_are_counted() -> None:
    process = Process.cosine(40)
    denoiser = Denoiser(Recorder(), process, "x0")
    for size in (1, 4, 2):
        denoiser(torch.zeros(size, 1, 2, 2), process.grid[3])
    assert (denoiser.calls, denoiser.evaluations) == (3, 7)


def test_the_network_runs_in_its_own_precision_and_the_rest_in_the_images() -> None:
    process = Process.edm(40)
    seen = []

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor, time: Tensor) -> Tensor:
            seen.append((x.dtype, time.dtype))
            return self.scale * x

    x_t, _ = pair()
    assert Denoiser(Network(), process, "edm")(x_t, process.grid[3]).x0.dtype == torch.float64
    assert Denoiser(Network().double(), process, "edm")(x_t.float(), process.grid[3]).x0.dtype == torch.float32
    recorder = Recorder()
    Denoiser(recorder, process, "edm")(x_t, process.grid[3])
    seen.append((recorder.x.dtype, recorder.time.dtype))
    assert seen == [(torch.float32,) * 2, (torch.float64,) * 2, (torch.float64,) * 2]


def test_labels_reach_the_network() -> None:
    process, label, recorder = Process.cosine(40), torch.tensor([3, 1, 4, 1]), Recorder()
    Denoiser(recorder, process, "x0")(pair()[0], process.grid[3], label)
    assert recorder.label is label


def test_twice_the_channels_are_a_learned_variance() -> None:
    """OpenAI's second half v in [-1, 1] is the fraction (v + 1)/2 between the two variances."""
    process = Process.cosine(40)
    x0, second = pair()
    denoiser = Denoiser(Recorder(torch.cat([x0, second], dim=1)), process, "x0")
    prediction = denoiser(torch.zeros_like(x0), process.grid[3])
    assert torch.equal(prediction.x0, x0)
    torch.testing.assert_close(prediction.fraction, (second + 1) / 2)


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (4, 2, 3, 4), (3, 2, 3, 3), (4, 2), (2,)])
def test_another_output_shape_is_a_sentence(shape: tuple[int, ...]) -> None:
    process = Process.cosine(40)
    with pytest.raises(UserError, match=r"returned shape .* for input \(4, 2, 3, 3\)"):
        Denoiser(Recorder(torch.zeros(shape)), process, "x0")(pair()[0], process.grid[3])


def test_an_unknown_parameterisation_is_a_sentence() -> None:
    with pytest.raises(UserError, match="'epsilon'; allowed are eps, v, x0, edm"):
        Denoiser(Recorder(), Process.cosine(40), "epsilon")
