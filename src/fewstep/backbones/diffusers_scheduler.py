"""A diffusers scheduler's configuration as what it says of the model: its process and its parameterisation."""

import logging
from collections.abc import Mapping
from typing import Any

import torch

from fewstep.backbones.diffusers_unet import diffusers_library
from fewstep.denoiser import EpsParameterisation, Parameterisation, VParameterisation, X0Parameterisation
from fewstep.errors import UserError
from fewstep.process import Process

log = logging.getLogger(__name__)

# Those whose timesteps k = 0 … T − 1 have ᾱ = Π (1 − β), and which give the network k itself.
SCHEDULERS = (
    "DDPMScheduler",
    "DDIMScheduler",
    "PNDMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
)
PARAMETERISATIONS: dict[str, Parameterisation] = {
    "epsilon": EpsParameterisation(),
    "v_prediction": VParameterisation(),
    "sample": X0Parameterisation(),
}
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
# What some schedulers can do to the model, with the value that does nothing.
UNSUPPORTED = {"trained_betas": None, "timestep_type": "discrete", "use_flow_sigmas": False}
# Not the model's: options of sampling, with the value that does nothing.
SAMPLING = {
    "clip_sample": False,
    "thresholding": False,
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_lu_lambdas": False,
}
ROUNDING = 1e-2  # of log-SNR: schedulers keep ᾱ in float32


def read_scheduler(config: Mapping[str, Any], learned_variance: bool) -> tuple[Process, Parameterisation]:
    """The process and the parameterisation that a `scheduler_config.json` describes.

    Args:
        config: its content.
        learned_variance: whether the network has twice as many output channels as its images.

    Raises:
        UserError: a scheduler or a setting of it that is not known here.
    """
    name = config.get("_class_name")
    if name not in SCHEDULERS:
        raise UserError(f"The scheduler is {name!r}; allowed are {', '.join(SCHEDULERS)}.")
    try:
        scheduler = getattr(diffusers_library(), name).from_config(dict(config))
    except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"diffusers cannot make a {name} of its configuration: {error}") from None
    settings: Mapping[str, Any] = scheduler.config  # with the class's own defaults
    for key, neutral in UNSUPPORTED.items():
        if settings.get(key, neutral) != neutral:
            raise UserError(f"The {name} has {key}, which is not supported; allowed is {neutral!r}.")
    _check_variance(name, settings.get("variance_type"), learned_variance)
    prediction = settings["prediction_type"]
    if prediction not in PARAMETERISATIONS:
        raise UserError(
            f"The {name} has prediction_type={prediction!r}; allowed are {', '.join(PARAMETERISATIONS)}."
        )
    process = _process(name, settings)
    _check_process(process, scheduler.alphas_cumprod)
    options = [
        f"{key}={settings[key]}" for key, neutral in SAMPLING.items() if settings.get(key, neutral) != neutral
    ]
    log.info("diffusers   %s: %s, %s", name, process, prediction)
    if options:
        log.info("diffusers   of sampling, not of the model, and no solver here has it: %s", ", ".join(options))
    return process, PARAMETERISATIONS[prediction]


def _process(name: str, settings: Mapping[str, Any]) -> Process:
    T, law = settings["num_train_timesteps"], settings["beta_schedule"]
    zero = bool(settings.get("rescale_betas_zero_snr", False))
    first, last = settings["beta_start"], settings["beta_end"]
    if law == "linear":
        return Process.linear(T, beta_first=first, beta_last=last, zero_terminal_snr=zero)
    if law == "scaled_linear":
        return Process.scaled_linear(T, first, last, zero_terminal_snr=zero)
    if law == "squaredcos_cap_v2":
        return Process.cosine(T, zero_terminal_snr=zero)
    raise UserError(f"The {name} has beta_schedule={law!r}; allowed are {', '.join(BETA_SCHEDULES)}.")


def _check_process(process: Process, alpha_bar: torch.Tensor) -> None:
    """Raise unless a scheduler's own ᾱ [T] are the process's; some have a stand-in for ᾱ_T = 0."""
    alpha_bar = alpha_bar.double()
    finite = process.T - process.zero_terminal_snr
    difference = process.log_snr(process.grid[1:]) - torch.log(alpha_bar / (1 - alpha_bar))
    worst = difference[:finite].abs().max().item()
    if not worst < ROUNDING:
        raise UserError(
            f"The scheduler's own ᾱ differ from those of {process!r} by {worst:.3g} in log-SNR: this version of "
            "diffusers means another process by its settings."
        )


def _check_variance(name: str, variance_type: str | None, learned_variance: bool) -> None:
    if learned_variance and variance_type != "learned_range":
        raise UserError(
            f"The network predicts a variance too, but the {name} has variance_type={variance_type!r}; allowed is "
            "'learned_range'."
        )
    if not learned_variance and variance_type in ("learned", "learned_range"):
        raise UserError(f"The {name} has variance_type={variance_type!r}, but the network predicts no variance.")
