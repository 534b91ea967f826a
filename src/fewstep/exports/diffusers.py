"""A schedule for the schedulers of diffusers: what to pass to `set_timesteps`, and how they must be configured.

What each of them does with a list was read and measured on diffusers 0.42. After the last timestep all of them go
to t = 0.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fewstep.errors import UserError
from fewstep.noise_laws import published_linear_betas
from fewstep.process import Process

if TYPE_CHECKING:
    from fewstep.schedule import Schedule

Arguments = dict[str, list[int] | list[float]]

REFUSED = {
    "DDIMScheduler": "its steps are all T/K timesteps long; EulerDiscreteScheduler is DDIM",
    "UniPCMultistepScheduler": "it takes a number of steps; DPMSolverMultistepScheduler is near it",
    "PNDMScheduler": "it takes a number of steps",
    "DEISMultistepScheduler": "it takes a number of steps; DPMSolverMultistepScheduler is near it",
    "LMSDiscreteScheduler": "it takes a number of steps",
    "EulerAncestralDiscreteScheduler": "it takes a number of steps; DDPMScheduler is near to it",
}
CLIPS = "It clips x̂_0 to [-1, 1] unless its clip_sample is false; the solvers here do not."
LAST_VARIANCE = (
    "With variance_type fixed_large or learned_range it adds noise to the final image, because the schedule's "
    "last timestep is not 0."
)
STAND_IN = "In place of the infinite noise level at the start it uses σ/α = 4096."


@dataclass(frozen=True)
class DiffusersExport:
    """What a scheduler needs.

    Attributes:
        scheduler: its class's name.
        set_timesteps: the arguments of its `set_timesteps`.
        config: how it must be configured, `Scheduler.from_config(scheduler.config, **config)`.
        solver: the solver here that moves as it does.
        notes: what else to know.
    """

    scheduler: str
    set_timesteps: Arguments
    config: Mapping[str, Any]
    solver: str
    notes: list[str]

    def content(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"format": "fewstep-diffusers", "version": 1, **asdict(self)}


def export(schedule: "Schedule", scheduler: str) -> DiffusersExport:
    """What the scheduler of that name needs to run the schedule.

    Raises:
        UserError: the scheduler takes no list, would change it in silence, or is not one that is tested.
    """
    if scheduler in REFUSED:
        raise UserError(f"{scheduler} cannot run a schedule: {REFUSED[scheduler]}.")
    if scheduler not in EXPORTS:
        raise UserError(f"Schedules are not tested with {scheduler!r}; allowed are {', '.join(EXPORTS)}.")
    if not schedule.process.variance_preserving:
        raise UserError(
            f"{scheduler} keeps a table of β, of which {schedule.process!r} has none; k-diffusion takes its "
            "sigmas."
        )
    return EXPORTS[scheduler](schedule)


def arguments(schedule: "Schedule", scheduler: object) -> Arguments:
    """The arguments of `set_timesteps` for a scheduler's class, or a scheduler whose configuration is checked.

    Raises:
        UserError: as `export`, or the scheduler is configured otherwise than the schedule needs.
    """
    if isinstance(scheduler, type):
        return export(schedule, scheduler.__name__).set_timesteps
    found = export(schedule, type(scheduler).__name__)
    config = getattr(scheduler, "config", {})
    wrong = {key: value for key, value in found.config.items() if not _same(config.get(key, value), value)}
    if wrong:
        key, value = next(iter(wrong.items()))
        raise UserError(
            f"This {found.scheduler} has {key}={config[key]!r}, but the schedule needs {value!r}; make it with "
            f"{found.scheduler}.from_config(scheduler.config, {key}={value!r})."
        )
    return found.set_timesteps


def _same(given: Any, wanted: Any) -> bool:
    if isinstance(given, float) and isinstance(wanted, float):
        return math.isclose(given, wanted, rel_tol=1e-6)
    return bool(given == wanted)


def _euler(schedule: "Schedule") -> DiffusersExport:
    """On the grid its timesteps; off it the sigmas, between which it interpolates timesteps over log σ, as here.

    Of fractional timesteps it would interpolate σ itself.
    """
    timesteps = schedule.timesteps()
    taken: Arguments = {"timesteps": timesteps} if _whole(timesteps) else {"sigmas": schedule.sigmas()}
    config = {"final_sigmas_type": "zero", "timestep_type": "discrete", "interpolation_type": "linear"}
    return DiffusersExport(
        "EulerDiscreteScheduler",
        taken,
        _law(schedule.process) | config | _no_spacing_of_its_own(),
        "ddim",
        [STAND_IN] if schedule.process.zero_terminal_snr else [],
    )


def _dpm_solver(schedule: "Schedule") -> DiffusersExport:
    name = "DPMSolverMultistepScheduler"
    config = {
        "algorithm_type": "dpmsolver++",
        "solver_order": 2,
        "solver_type": "midpoint",
        "final_sigmas_type": "zero",
        "use_lu_lambdas": False,
        "use_flow_sigmas": False,
    }
    return DiffusersExport(
        name,
        _whole_timesteps(schedule, name, "it cuts fractions off timesteps"),
        _law(schedule.process) | config | _no_spacing_of_its_own(),
        "dpmpp_2m",
        [STAND_IN] if schedule.process.zero_terminal_snr else [],
    )


def _heun(schedule: "Schedule") -> DiffusersExport:
    name = "HeunDiscreteScheduler"
    if schedule.process.zero_terminal_snr:
        raise UserError(
            f"{name} has no zero terminal SNR, and Heun's method cannot start at an infinite noise level; "
            "EulerDiscreteScheduler and DPMSolverMultistepScheduler can."
        )
    law = _law(schedule.process)
    del law["rescale_betas_zero_snr"]
    return DiffusersExport(
        name,
        _whole_timesteps(schedule, name, "it interpolates σ, and not log σ, between timesteps"),
        law | _no_spacing_of_its_own(),
        "heun",
        ["It makes 2K − 1 network calls, and its own list of timesteps has as many."],
    )


def _ddpm(schedule: "Schedule") -> DiffusersExport:
    name = "DDPMScheduler"
    timesteps = _whole_timesteps(schedule, name, "it cuts fractions off timesteps")
    last_is_clean = timesteps["timesteps"][-1] == 0
    return DiffusersExport(
        name,
        timesteps,
        _law(schedule.process) | ({} if last_is_clean else {"variance_type": "fixed_small"}),
        "ancestral",
        [CLIPS] if last_is_clean else [CLIPS, LAST_VARIANCE],
    )


EXPORTS: dict[str, Callable[["Schedule"], DiffusersExport]] = {
    "EulerDiscreteScheduler": _euler,
    "DPMSolverMultistepScheduler": _dpm_solver,
    "HeunDiscreteScheduler": _heun,
    "DDPMScheduler": _ddpm,
}


def _whole(timesteps: list[int] | list[float]) -> bool:
    return all(isinstance(timestep, int) for timestep in timesteps)


def _whole_timesteps(schedule: "Schedule", scheduler: str, otherwise: str) -> Arguments:
    timesteps = schedule.timesteps()
    if not _whole(timesteps):
        between = next(timestep for timestep in timesteps if timestep != round(timestep))
        raise UserError(
            f"{scheduler} cannot run a schedule with times between timesteps, here {between:.6g}: {otherwise}; "
            "EulerDiscreteScheduler runs it."
        )
    return {"timesteps": timesteps}


def _no_spacing_of_its_own() -> dict[str, Any]:
    """Settings that make schedulers choose noise levels themselves."""
    return {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}


def _law(process: Process) -> dict[str, Any]:
    """A process as the configuration of a scheduler."""
    law, level = process.definition, process.definition["smallest_noise_level"]
    config = {
        "num_train_timesteps": process.T,
        "trained_betas": None,
        "rescale_betas_zero_snr": process.zero_terminal_snr,
    }
    if process.name == "cosine":
        if level is not None:
            raise UserError(f"No scheduler of diffusers has {process!r}: their cosine law starts as published.")
        return config | {"beta_schedule": "squaredcos_cap_v2"}
    first, last = published_linear_betas(process.T)
    if level is not None:
        first = level**2 / (1 + level**2)
    else:
        first = law.get("beta_first", first)
    return config | {
        "beta_schedule": process.name,
        "beta_start": first,
        "beta_end": law.get("beta_last", last),
    }
