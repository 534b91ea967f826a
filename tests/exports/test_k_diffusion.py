"""The exported sigmas through k-diffusion's own samplers, against the solvers here."""

import importlib.util
import json
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.errors import UserError
from fewstep.exports import k_diffusion
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.solvers.ddim import Ddim
from fewstep.solvers.dpmpp_2m import Dpmpp2M
from fewstep.solvers.heun import Heun

pytest.importorskip("diffusers", reason="the network here is diffusers'")
SOLVERS: dict[str, Any] = {"sample_euler": Ddim(), "sample_heun": Heun(), "sample_dpmpp_2m": Dpmpp2M()}
SCALED_LINEAR = Process.scaled_linear(1000)
SCHEDULES = {
    "on the grid": Schedule.on_grid([0, 31, 200, 450, 801, 1000], SCALED_LINEAR),
    "between timesteps": Schedule([0, 0.0314159, 0.2002, 0.4507, 0.8, 1], SCALED_LINEAR),
}


@pytest.fixture(scope="module")
def library() -> Iterator[Any]:
    """k_diffusion's `sampling` and `external`, without the rest of it and without torchvision.

    The package imports all of its modules, and with them torchvision, which does not import beside every torch.
    """
    found = importlib.util.find_spec("k_diffusion")
    if found is None:
        pytest.skip("needs k-diffusion, which `make test` installs")
    package = types.ModuleType("k_diffusion")
    package.__path__ = list(found.submodule_search_locations or [])
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    stand_ins = {name: types.ModuleType(name) for name in names}
    stand_ins["torchvision.transforms"].functional = stand_ins[names[2]]  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        for name, module in {"k_diffusion": package, **stand_ins}.items():
            patch.setitem(sys.modules, name, module)
        yield types.SimpleNamespace(
            sampling=importlib.import_module("k_diffusion.sampling"),
            external=importlib.import_module("k_diffusion.external"),
        )
    for name in [name for name in sys.modules if name.partition(".")[0] == "k_diffusion"]:
        del sys.modules[name]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("sampler", SOLVERS)
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_its_samplers_move_as_the_solvers_here(
    library: Any, sampler: str, schedule: Schedule, run: Callable[..., Any]
) -> None:
    model, process = run("v_prediction", SCALED_LINEAR), SCALED_LINEAR
    sigmas = torch.tensor(json.loads(k_diffusion.export(schedule)))
    alpha_bar = process.alpha(process.grid[1:]).square().float()

    class Wrapped(library.external.DiscreteVDDPMDenoiser):
        def get_v(self, x: Tensor, t: Tensor) -> Tensor:
            return model.output(x, t)

    wrapped = Wrapped(torch.nn.Identity(), alpha_bar, quantize=False)
    wrapped.sigma_data = 1.0
    x = model.start * (1 + sigmas[0] ** 2).sqrt()  # the prior's x_1 over α, for the very same noise
    found = getattr(library.sampling, sampler)(wrapped, x, sigmas, disable=True)
    expected = model.ours(SOLVERS[sampler], schedule)
    scale = expected.abs().max()
    assert (found - expected).abs().max() < 2e-3 * scale
    other = model.ours(SOLVERS[sampler], Schedule.on_grid([0, 100, 300, 600, 900, 1000], process))
    assert (found - other).abs().max() > 5e-3 * scale


def test_edm_needs_no_wrapper(library: Any, perfect_denoiser: Callable[..., Any]) -> None:
    from fewstep.noise import Noise

    process, noise = Process.edm(40, 0.02, 30.0), Noise(0, range(3), (1, 2, 2))
    schedule = Schedule.on_grid([0, 5, 12, 30, 40], process)
    sigmas = torch.tensor(json.loads(k_diffusion.export(schedule)), dtype=torch.float64)
    for sampler, solver in SOLVERS.items():
        found = getattr(library.sampling, sampler)(
            lambda x, sigma: 0.25 / (0.25 + sigma[0] ** 2) * x, sigmas[0] * noise(0), sigmas, disable=True
        )
        *_, last = solver(perfect_denoiser(process, 0.25), schedule, noise)
        torch.testing.assert_close(found, last.x, rtol=1e-8, atol=1e-12)


def test_an_infinite_noise_level_is_refused() -> None:
    schedule = Schedule.on_grid([0, 100, 1000], Process.scaled_linear(1000, zero_terminal_snr=True))
    with pytest.raises(UserError, match="infinite"):
        k_diffusion.export(schedule)
