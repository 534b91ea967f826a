"""The denoiser: a network and the parameterisation of its output, (x_t, t, label) → x̂_0.

Every parameterisation is x̂_0 = skip(t) x_t + out(t) F(in(t) x_t, time(t)), so it is four coefficients
(Karras et al. 2022, eq. 7, written there for the edm one alone).
"""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from fewstep.errors import UserError
from fewstep.process import Process, over_images
from fewstep.ranks import summed

_COUNTING = threading.Lock()


@dataclass(frozen=True)
class Prediction:
    """What a denoiser says of x_t.

    Attributes:
        x0: x̂_0, of x_t's shape and dtype.
        fraction: f of the learned variance exp(f log σ²_{t|s} + (1 − f) log σ̃²) per pixel (Nichol &
            Dhariwal 2021, eq. 15), where the network has learned one.
    """

    x0: Tensor
    fraction: Tensor | None = None


@dataclass(frozen=True)
class Scalings:
    """The coefficients of a parameterisation at times t, each float64 of t's shape."""

    skip: Tensor
    out: Tensor
    input: Tensor
    time: Tensor


class Parameterisation(Protocol):
    """What a network's output F means."""

    name: str

    def scalings(self, process: Process, t: Tensor) -> Scalings: ...


def _timestep(process: Process, t: Tensor, rescale: bool) -> Tensor:
    """OpenAI's and diffusers' timestep: grid index n is their n − 1; × 1000/T where rescaled."""
    timestep = t * process.T - 1
    return timestep * (1000 / process.T) if rescale else timestep


@dataclass(frozen=True)
class EpsParameterisation:
    """F predicts the noise: x̂_0 = (x_t − σ F)/α (Ho et al. 2020)."""

    rescale_timesteps: bool = False
    name = "eps"

    def scalings(self, process: Process, t: Tensor) -> Scalings:
        alpha, sigma = process.alpha(t), process.sigma(t)
        return Scalings(
            1 / alpha, -sigma / alpha, torch.ones_like(alpha), _timestep(process, t, self.rescale_timesteps)
        )


@dataclass(frozen=True)
class VParameterisation:
    """F predicts v = α ε − σ x_0: x̂_0 = α x_t − σ F (Salimans & Ho 2022); variance-preserving processes."""

    rescale_timesteps: bool = False
    name = "v"

    def scalings(self, process: Process, t: Tensor) -> Scalings:
        if not process.variance_preserving:
            raise UserError(f"The v parameterisation needs a variance-preserving process; {process!r} is not one.")
        alpha, sigma = process.alpha(t), process.sigma(t)
        return Scalings(alpha, -sigma, torch.ones_like(alpha), _timestep(process, t, self.rescale_timesteps))


@dataclass(frozen=True)
class X0Parameterisation:
    """F is x̂_0 itself."""

    rescale_timesteps: bool = False
    name = "x0"

    def scalings(self, process: Process, t: Tensor) -> Scalings:
        one = torch.ones_like(process.alpha(t))
        return Scalings(0 * one, one, one, _timestep(process, t, self.rescale_timesteps))


@dataclass(frozen=True)
class EdmParameterisation:
    """EDM's preconditioning in z = x_t/α and σ̄ = σ/α (Karras et al. 2022, Table 1), on any process.

    `time_scale` multiplies c_noise = ln(σ̄)/4; 1 is the paper's.
    """

    sigma_data: float = 0.5
    time_scale: float = 1.0
    name = "edm"

    def __post_init__(self) -> None:
        for name in ("sigma_data", "time_scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)!r}, but must be positive and finite.")

    def scalings(self, process: Process, t: Tensor) -> Scalings:
        alpha, sigma = process.alpha(t), process.noise_level(t)
        total = sigma.square() + self.sigma_data**2
        return Scalings(
            skip=self.sigma_data**2 / total / alpha,
            out=sigma * self.sigma_data / total.sqrt(),
            input=1 / total.sqrt() / alpha,
            time=self.time_scale * torch.log(sigma) / 4,
        )


PARAMETERISATIONS: dict[str, Callable[[], Parameterisation]] = {
    "eps": EpsParameterisation,
    "v": VParameterisation,
    "x0": X0Parameterisation,
    "edm": EdmParameterisation,
}


class Denoiser(nn.Module):
    """A backbone, the process it was trained on, and what its output means.

    Args:
        backbone: called as backbone(x, time) or backbone(x, time, label) with x [B, C, H, W] in the dtype of
            its parameters (of x_t where it has none) and time [B]; returns [B, C, H, W], or [B, 2C, H, W]
            where it learned a variance. One that takes labels, int64 [B], says of how many classes in an attribute
            `num_classes`.
        process: the forward process.
        parameterisation: an instance, or one of the names `eps`, `v`, `x0`, `edm`.
        channels_last: whether weights and images lie in memory with the channels last, which GPUs like.
        compile: a backend of torch.compile that the network is compiled with, such as `inductor`; None for none.

    Attributes:
        calls: forward passes of the backbone so far; a sampler's NFE is what it adds to this.
        evaluations: images that went through the backbone so far.
    """

    def __init__(
        self,
        backbone: Callable[..., Tensor],
        process: Process,
        parameterisation: Parameterisation | str,
        channels_last: bool = False,
        compile: str | None = None,
    ) -> None:
        super().__init__()
        if not callable(backbone):
            raise UserError(f"The backbone is {backbone!r}, but must be a network or another function.")
        if not isinstance(process, Process):
            raise UserError(
                f"The denoiser's process is {process!r}, but must be one, such as Process.cosine(1000)."
            )
        if isinstance(parameterisation, str):
            if parameterisation not in PARAMETERISATIONS:
                allowed = ", ".join(PARAMETERISATIONS)
                raise UserError(f"There is no parameterisation {parameterisation!r}; allowed are {allowed}.")
            parameterisation = PARAMETERISATIONS[parameterisation]()
        if process.zero_terminal_snr:
            _require_finite(parameterisation, process)
        self.backbone = backbone
        self.process = process
        self.parameterisation = parameterisation
        self.channels_last, self.compile_backend = channels_last, compile
        self._set_up_network()
        self.calls = 0
        self.evaluations = 0

    def forward(self, x_t: Tensor, t: Tensor, label: Tensor | None = None) -> Prediction:
        """x̂_0 for x_t [B, C, H, W] at times t, a scalar or [B], float64; arithmetic in x_t's dtype."""
        scalings = self.parameterisation.scalings(self.process, t)
        dtype = next((p.dtype for p in self._parameters_of_backbone()), x_t.dtype)
        x = (over_images(scalings.input, x_t) * x_t).to(dtype)
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        time = scalings.time.to(device=x.device, dtype=dtype).expand(len(x))
        output = self.backbone(x, time) if label is None else self.backbone(x, time, label)
        if not isinstance(output, Tensor):
            raise UserError(
                f"The network returned a {type(output).__name__}, but must return a tensor; wrap it, as in "
                "lambda x, t: network(x, t).sample."
            )
        if torch.is_grad_enabled() and x.requires_grad and not output.requires_grad:
            raise UserError(
                "The network's output has no gradient, as under torch.no_grad or through numpy, and a search by "
                "gradient needs one; take search=dp, or a network that can be differentiated."
            )
        with _COUNTING:  # some searches call it from several threads
            self.calls += 1
            self.evaluations += len(x)
        output, fraction = self._split(output.to(x_t.dtype), x_t)
        return Prediction(
            over_images(scalings.skip, x_t) * x_t + over_images(scalings.out, x_t) * output, fraction
        )

    @property
    def num_classes(self) -> int | None:
        """Of how many classes a label goes with every image; None for a network that takes none."""
        return getattr(self.backbone, "num_classes", None)

    def given(self, label: Tensor | None = None) -> "Denoiser":
        """This denoiser with the images' labels, int64 [B], for whoever calls it on these images without them."""
        return self if label is None else _Given(self, label)

    def loss_weight(self, t: Tensor) -> Tensor:
        """1/out², which turns ‖x_0 − x̂_0‖² into the squared error of the network's own output; float64."""
        return self.parameterisation.scalings(self.process, t).out.square().reciprocal()

    def _set_up_network(self) -> None:
        """Lay the network's weights out, and have it compiled at its first call."""
        if not self.channels_last and self.compile_backend is None:
            return
        if not isinstance(self.backbone, nn.Module):
            raise UserError("channels_last and compile are for a network, a torch module, not for a function.")
        if self.channels_last:
            self.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.compile_backend is not None:
            known = torch.compiler.list_backends(exclude_tags=())
            if self.compile_backend not in known:
                raise UserError(
                    f"torch.compile has no backend {self.compile_backend!r} here; allowed are {', '.join(known)}."
                )
            self.backbone.compile(backend=self.compile_backend)

    def _parameters_of_backbone(self):  # type: ignore[no-untyped-def]
        return self.backbone.parameters() if isinstance(self.backbone, nn.Module) else iter(())

    def _split(self, output: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor | None]:
        channels = x_t.shape[1]
        if output.shape == x_t.shape:
            return output, None
        if output.shape == (len(x_t), 2 * channels, *x_t.shape[2:]):
            mean, variance = output.split(channels, dim=1)
            return mean, (variance + 1) / 2
        raise UserError(
            f"The network returned shape {tuple(output.shape)} for input {tuple(x_t.shape)}; "
            "allowed are the same shape, or twice the channels with a learned variance."
        )


class _Given(Denoiser):
    """A denoiser whose images' labels are known; it counts the calls of the denoiser itself."""

    def __init__(self, denoiser: Denoiser, label: Tensor) -> None:
        super().__init__(denoiser.backbone, denoiser.process, denoiser.parameterisation)
        self.denoiser, self.label = denoiser, label

    def forward(self, x_t: Tensor, t: Tensor, label: Tensor | None = None) -> Prediction:
        prediction: Prediction = self.denoiser(x_t, t, self.label if label is None else label)
        return prediction


def _require_finite(parameterisation: Parameterisation, process: Process) -> None:
    """Raise a UserError where a parameterisation divides by α = 0: no x_1 tells x̂_0 by it."""
    end = parameterisation.scalings(process, process.grid[-1])
    if not all(math.isfinite(value.item()) for value in (end.skip, end.out, end.input, end.time)):
        raise UserError(
            f"The {parameterisation.name} parameterisation divides by α, which is 0 at the end of {process!r}; v "
            "and x0 are defined there."
        )


@contextmanager
def counted_on_all_ranks(denoiser: Denoiser) -> Iterator[None]:
    """What a denoiser counts while the block lasts are the calls of all ranks together, on every rank."""
    calls, evaluations = denoiser.calls, denoiser.evaluations
    yield
    denoiser.calls = calls + summed(denoiser.calls - calls)
    denoiser.evaluations = evaluations + summed(denoiser.evaluations - evaluations)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode while the block lasts; afterwards every module is in its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
