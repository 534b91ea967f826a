"""Every export through diffusers' own scheduler, against the solver here; and every refusal, shown to be right."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep.errors import UserError
from fewstep.exports.diffusers import EXPORTS, REFUSED, export
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.solvers.ancestral import Ancestral
from fewstep.solvers.ddim import Ddim
from fewstep.solvers.dpmpp_2m import Dpmpp2M
from fewstep.solvers.heun import Heun

diffusers = pytest.importorskip("diffusers", reason="needs pip install 'fewstep[diffusers]'")

PROCESSES = {
    "linear": Process.linear(1000),
    "linear, other ends": Process.linear(400, beta_first=0.001, beta_last=0.03),
    "linear from 1/16": Process.linear(1000, 1 / 16),
    "scaled_linear": Process.scaled_linear(1000),
    "cosine": Process.cosine(1000),
}
ENDLESS = {
    "linear": Process.linear(1000, zero_terminal_snr=True),
    "scaled_linear": Process.scaled_linear(1000, zero_terminal_snr=True),
}
SOLVERS: dict[str, Any] = {
    "EulerDiscreteScheduler": Ddim(),
    "DPMSolverMultistepScheduler": Dpmpp2M(),
    "HeunDiscreteScheduler": Heun(),
}


def schedule_of(process: Process, fractions: tuple[float, ...] = (0.03, 0.2, 0.45, 0.8)) -> Schedule:
    return Schedule.on_grid([0, *(int(share * process.T) for share in fractions), process.T], process)


def made(schedule: Schedule, name: str, prediction: str, **changes: Any) -> Any:
    """The scheduler as the export asks for it, ready to run."""
    found = json.loads(json.dumps(export(schedule, name).content()))
    scheduler_class = getattr(diffusers, found["scheduler"])
    assert schedule.to_diffusers(scheduler_class) == found["set_timesteps"]
    scheduler = scheduler_class(**found["config"] | {"prediction_type": prediction} | changes)
    assert changes or schedule.to_diffusers(scheduler) == found["set_timesteps"]
    scheduler.set_timesteps(**found["set_timesteps"])
    return scheduler


def sampled(run: Any, scheduler: Any, x_1: Tensor) -> tuple[Tensor, int]:
    """What the scheduler makes of x_1, and the network calls that it takes."""
    sigma = getattr(scheduler, "sigmas", [None])[0]
    exploding = type(scheduler).__name__ in ("EulerDiscreteScheduler", "HeunDiscreteScheduler")
    x = x_1 * (sigma**2 + 1) ** 0.5 if exploding else x_1  # x/α
    for timestep in scheduler.timesteps:
        output = run.output(scheduler.scale_model_input(x, timestep), timestep)
        x = scheduler.step(output, timestep, x).prev_sample
    return x, len(scheduler.timesteps)


def close(found: Tensor, expected: Tensor, tolerance: float = 2e-3) -> bool:
    return (found - expected).abs().max().item() < tolerance * expected.abs().max().item()


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize(
    ("law", "prediction"),
    [
        ("scaled_linear", "epsilon"),
        ("scaled_linear", "v_prediction"),
        ("scaled_linear", "sample"),
        ("linear", "v_prediction"),
        ("linear, other ends", "v_prediction"),
        ("linear from 1/16", "v_prediction"),
    ],
)
def test_it_moves_as_the_solver_here(name: str, law: str, prediction: str, run: Callable[..., Any]) -> None:
    process = PROCESSES[law]
    model, schedule = run(prediction, process), schedule_of(process)
    found, calls = sampled(model, made(schedule, name, prediction), model.start)
    assert calls == (2 * schedule.steps - 1 if name == "HeunDiscreteScheduler" else schedule.steps)
    assert close(found, model.ours(SOLVERS[name], schedule), 1e-4)
    assert not close(found, model.ours(SOLVERS[name], schedule_of(process, (0.1, 0.3, 0.6, 0.9))), 3e-3)


@pytest.mark.parametrize(("name", "tolerance"), zip(SOLVERS, (1e-3, 1e-4, 0.05), strict=True))
def test_the_cosine_law_from_a_noise_level_of_20_000(name: str, tolerance: float, run: Callable[..., Any]) -> None:
    """Euler and Heun hold x/α, there in float32: of Heun's second difference little is left."""
    process = PROCESSES["cosine"]
    model, schedule = run("sample", process), schedule_of(process)
    found, _ = sampled(model, made(schedule, name, "sample"), model.start)
    assert close(found, model.ours(SOLVERS[name], schedule), tolerance)
    assert not close(found, model.ours(SOLVERS[name], schedule_of(process, (0.1, 0.3, 0.6, 0.9))), 0.2)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("K", [1, 2, 20])
def test_any_number_of_steps(name: str, K: int, run: Callable[..., Any]) -> None:
    process = Process.scaled_linear(1000)
    model, schedule = run("v_prediction", process), schedule_of(process, tuple(i / K for i in range(1, K)))
    assert schedule.steps == K
    found, _ = sampled(model, made(schedule, name, "v_prediction"), model.start)
    assert close(found, model.ours(SOLVERS[name], schedule))


@pytest.mark.parametrize("law", ENDLESS)
def test_euler_starts_from_pure_noise(law: str, run: Callable[..., Any]) -> None:
    process = ENDLESS[law]
    model, schedule = run("v_prediction", process), schedule_of(process)
    scheduler = made(schedule, "EulerDiscreteScheduler", "v_prediction")
    assert scheduler.sigmas[0].item() == pytest.approx(4096, rel=1e-6)
    assert any("4096" in note for note in export(schedule, "EulerDiscreteScheduler").notes)
    found, _ = sampled(model, scheduler, model.start)
    assert close(found, model.ours(Ddim(), schedule), 0.01)


def test_euler_between_timesteps_takes_sigmas(run: Callable[..., Any]) -> None:
    """Of fractional timesteps it would interpolate σ, and not log σ."""
    process = Process.linear(1000)
    model = run("v_prediction", process)
    schedule = Schedule([0, 1.5 / 1000, 3.4 / 1000, 0.0305, 0.4503, 1], process)
    arguments = schedule.to_diffusers(diffusers.EulerDiscreteScheduler)
    assert arguments == {"sigmas": schedule.sigmas()}
    scheduler = made(schedule, "EulerDiscreteScheduler", "v_prediction")
    np.testing.assert_allclose(scheduler.timesteps, schedule.timesteps(), atol=5e-3)
    expected = model.ours(Ddim(), schedule)
    assert close(sampled(model, scheduler, model.start)[0], expected)
    scheduler.set_timesteps(timesteps=schedule.timesteps())
    assert abs(scheduler.sigmas[-2].item() / schedule.sigmas()[-2] - 1) > 0.01


@pytest.mark.parametrize(
    "process",
    [PROCESSES["linear"], PROCESSES["scaled_linear"], PROCESSES["linear from 1/16"], *ENDLESS.values()],
    ids=repr,
)
def test_ddpm_is_the_ancestral_solver_on_the_same_noise(
    process: Process, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, schedule = run("v_prediction", process), schedule_of(process)
    scheduler, moves = made(schedule, "DDPMScheduler", "v_prediction", clip_sample=False), iter(range(1, 99))
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: model.noise(next(moves)).float()
    )
    found, calls = sampled(model, scheduler, model.start)
    assert calls == schedule.steps
    assert close(found, model.ours(Ancestral("posterior"), schedule))


def test_ddpm_clips_unless_told_otherwise(run: Callable[..., Any]) -> None:
    process = Process.linear(1000)
    model, schedule = run("sample", process), schedule_of(process)
    assert diffusers.DDPMScheduler().config.clip_sample
    assert model.ours(Ancestral("posterior"), schedule).abs().max() > 0.2
    found, _ = sampled(model, made(schedule, "DDPMScheduler", "sample", clip_sample_range=0.1), model.start)
    assert found.abs().max().item() == pytest.approx(0.1, abs=1e-6)
    assert any("clip_sample" in note for note in export(schedule, "DDPMScheduler").notes)


def test_ddpm_with_a_large_variance_ends_in_noise(run: Callable[..., Any]) -> None:
    """Its last step adds noise of variance 1 − ᾱ unless its timestep is 0."""
    process = Process.linear(1000)
    model, last = run("sample", process), {}
    for name, path in (("later", [0, 200, 1000]), ("first", [0, 1, 1000])):
        schedule = Schedule.on_grid(path, process)
        scheduler = made(schedule, "DDPMScheduler", "sample", variance_type="fixed_large", clip_sample=False)
        x = model.start
        for timestep in scheduler.timesteps:
            output = model.output(x, timestep)
            x = scheduler.step(output, timestep, x).prev_sample
        last[name] = (x - output).std().item()  # what is beside x̂_0
        if name == "later":
            with pytest.raises(
                UserError, match="variance_type='fixed_large', but the schedule needs 'fixed_small'"
            ):
                schedule.to_diffusers(scheduler)
        else:
            assert schedule.to_diffusers(scheduler) == {"timesteps": [999, 0]}
    assert last["later"] == pytest.approx(process.sigma(process.grid[200]).item(), rel=0.2)
    assert last["first"] < 1e-6


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "DDPMScheduler"])
def test_whole_timesteps_are_all_that_some_take(name: str) -> None:
    """Fractions are cut off in silence."""
    process = Process.linear(1000)
    schedule = Schedule([0, 0.2505, 1], process)
    with pytest.raises(UserError, match=rf"{name} .*between timesteps, here 249\.5: it cuts"):
        schedule.to_diffusers(getattr(diffusers, name))
    scheduler = getattr(diffusers, name)()
    scheduler.set_timesteps(timesteps=schedule.timesteps())
    assert scheduler.timesteps.tolist() == [999, 249]


def test_heun_interpolates_sigma_itself() -> None:
    process = Process.linear(1000)
    schedule = Schedule([0, 1.5 / 1000, 1], process)
    with pytest.raises(UserError, match="interpolates σ, and not log σ"):
        schedule.to_diffusers(diffusers.HeunDiscreteScheduler)
    scheduler = diffusers.HeunDiscreteScheduler(beta_start=1e-4, beta_end=0.02)
    scheduler.set_timesteps(timesteps=schedule.timesteps())
    assert abs(scheduler.sigmas[-2].item() / schedule.sigmas()[-2] - 1) > 0.01


def test_heun_has_no_zero_terminal_snr() -> None:
    with pytest.raises(UserError, match="no zero terminal SNR"):
        schedule_of(ENDLESS["linear"]).to_diffusers(diffusers.HeunDiscreteScheduler)
    assert "rescale_betas_zero_snr" not in diffusers.HeunDiscreteScheduler().config


@pytest.mark.parametrize("name", REFUSED)
def test_what_takes_no_list_is_refused(name: str) -> None:
    schedule = schedule_of(Process.linear(1000))
    with pytest.raises(UserError, match=f"{name} cannot run a schedule"):
        schedule.to_diffusers(getattr(diffusers, name))
    for key, values in (("timesteps", schedule.timesteps()), ("sigmas", schedule.sigmas())):
        with pytest.raises((TypeError, ValueError)):
            getattr(diffusers, name)().set_timesteps(**{key: values})


def test_overwriting_ddims_timesteps_is_silently_wrong(run: Callable[..., Any]) -> None:
    process = Process.linear(1000)
    model, schedule = run("v_prediction", process), schedule_of(process)
    scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction", clip_sample=False)
    scheduler.set_timesteps(schedule.steps)
    scheduler.timesteps = torch.tensor(schedule.timesteps())
    found, _ = sampled(model, scheduler, model.start)
    assert not close(found, model.ours(Ddim(), schedule), 0.02)


def test_what_is_not_tested_or_has_no_law_is_refused() -> None:
    schedule = schedule_of(Process.linear(1000))
    with pytest.raises(UserError, match="not tested with 'LCMScheduler'; allowed are EulerDiscreteScheduler"):
        schedule.to_diffusers(diffusers.LCMScheduler)
    for process in (Process.edm(40), Process.cosine(1000, 1 / 16)):
        with pytest.raises(UserError, match=r"table of β|cosine law starts as published"):
            schedule_of(process, (0.5,)).to_diffusers(diffusers.EulerDiscreteScheduler)


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        (
            "EulerDiscreteScheduler",
            {"final_sigmas_type": "sigma_min"},
            "final_sigmas_type='sigma_min', but .*'zero'",
        ),
        ("EulerDiscreteScheduler", {"beta_end": 0.012}, "beta_end=0.012, but the schedule needs 0.02"),
        ("EulerDiscreteScheduler", {"use_karras_sigmas": True}, r"from_config\(scheduler.config, use_karras"),
        ("DPMSolverMultistepScheduler", {"solver_order": 3}, "solver_order=3"),
        ("DPMSolverMultistepScheduler", {"final_sigmas_type": "sigma_min"}, "final_sigmas_type='sigma_min'"),
        ("HeunDiscreteScheduler", {"num_train_timesteps": 500}, "num_train_timesteps=500"),
        ("DDPMScheduler", {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr=True"),
    ],
)
def test_a_scheduler_that_is_configured_otherwise(name: str, changes: dict, sentence: str) -> None:
    schedule = schedule_of(Process.linear(1000))
    config = dict(export(schedule, name).config)
    scheduler = getattr(diffusers, name)(**config | changes)
    with pytest.raises(UserError, match=sentence):
        schedule.to_diffusers(scheduler)
    assert schedule.to_diffusers(type(scheduler).from_config(scheduler.config, **config))


def test_every_export_names_a_solver_of_ours() -> None:
    names = {export(schedule_of(Process.linear(1000)), name).solver for name in EXPORTS}
    assert names == {"ddim", "dpmpp_2m", "heun", "ancestral"}
