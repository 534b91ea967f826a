"""The teacher's trajectories: those of the real solver from noise of their own, the same on any devices."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fewstep.data.base import SPLITS, image_numbers
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.solvers.ddim import Ddim
from fewstep.statistics import forward_paths, teacher_trajectories
from fewstep.statistics.fine_nodes import MOST_BYTES, fine_schedule, most_trajectories
from fewstep.statistics.teacher_trajectories import TeacherTrajectories

IMAGES = torch.zeros(7, 1, 2, 2)


class Network(nn.Module):
    """x̂_0 = tanh(w x / (1 + time/20)), with a weight and, where there are classes, their labels."""

    def __init__(self, weight: float = 1.0, num_classes: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))
        self.num_classes = num_classes

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        shift = 0 if label is None else label.double().reshape(-1, 1, 1, 1)
        return torch.tanh(self.weight * x / (1 + time.reshape(-1, 1, 1, 1) / 20) + shift)


def measured(denoiser: Denoiser, module: Any = teacher_trajectories, **settings: Any) -> Any:
    arguments = {"split": "train", "levels": 17, "seed": 3, "batch_size": 4, "trajectories": 7, "steps": 12}
    estimator = module.Estimator(IMAGES, None, **{**arguments, **settings})
    with torch.inference_mode():
        return estimator.collect(
            denoiser.process, [estimator.measure(denoiser, row) for row in range(len(estimator))]
        )


def test_the_states_are_those_of_the_solver(any_process: Process) -> None:
    """z is made of the start and of D alone; the solver makes its states itself."""
    denoiser = Denoiser(Network(), any_process, "x0")
    teacher = measured(denoiser)
    schedule = fine_schedule(any_process, 17, 12)
    assert teacher.indices == schedule.indices
    assert teacher.D.shape == (12, 7, 1, 2, 2)
    steps = list(Ddim()(denoiser, schedule, teacher.noise))
    states = [step.x / any_process.alpha(torch.tensor(step.s, dtype=torch.float64)) for step in steps]
    torch.testing.assert_close(teacher.z[:-1].flip(0).double(), torch.stack(states), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(teacher.D[0].double(), steps[-1].x, rtol=1e-6, atol=1e-6)


def test_a_process_with_zero_terminal_snr_has_trajectories_too() -> None:
    teacher = measured(Denoiser(Network(), Process.cosine(40, zero_terminal_snr=True), "x0"))
    assert teacher.D.isfinite().all()
    assert teacher.z.isfinite().all()
    torch.testing.assert_close(teacher.z[0], teacher.D[0])


def test_the_starts_are_nobody_elses() -> None:
    """Not those of samples 0, 1, …, nor the noises of any split's images; and the splits have their own."""
    denoiser = Denoiser(Network(), Process.cosine(40), "x0")
    numbers = {split: set(measured(denoiser, split=split).noise.indices) for split in SPLITS}
    others = [set(range(10**6)), *(set(image_numbers(split, 1000)) for split in SPLITS)]
    assert not any(mine & other for mine in numbers.values() for other in others)
    assert len(set.union(*numbers.values())) == 7 * len(SPLITS)


@pytest.mark.parametrize("module", [teacher_trajectories, forward_paths])
def test_neither_the_batch_nor_the_number_of_others_changes_a_trajectory(module: Any) -> None:
    denoiser = Denoiser(Network(), Process.cosine(40), "x0")
    assert torch.equal(measured(denoiser, module).D, measured(denoiser, module, batch_size=3).D)
    few = measured(denoiser, module, trajectories=5)
    assert torch.equal(measured(denoiser, module).D[:, :5], few.D)
    assert not torch.equal(few.D, measured(denoiser, module, trajectories=5, seed=4).D)


@pytest.mark.parametrize("module", [teacher_trajectories, forward_paths])
def test_its_calls_are_those_that_it_states(module: Any) -> None:
    denoiser = Denoiser(Network(), Process.cosine(9), "x0")
    found = measured(denoiser, module, trajectories=6)  # of 12 steps, but the process has 9
    stated = module.Estimator.network_calls(7, 9, IMAGES.shape[1:], trajectories=6, steps=12)
    assert stated == denoiser.evaluations == found.calls == 6 * 9


def test_of_a_conditional_model_each_trajectory_has_a_class() -> None:
    denoiser = Denoiser(Network(num_classes=3), Process.cosine(40), "x0")
    teacher = measured(denoiser, trajectories=40)
    assert set(teacher.labels.tolist()) == {0, 1, 2}
    *_, last = Ddim()(denoiser, fine_schedule(denoiser.process, 17, 12), teacher.noise, teacher.labels)
    torch.testing.assert_close(teacher.D[0].double(), last.x.detach(), rtol=1e-6, atol=1e-6)


def test_memory_bounds_the_trajectories() -> None:
    assert most_trajectories(256, 160, (3, 32, 32)) == 256
    at_most = most_trajectories(256, 160, (3, 64, 64))
    assert at_most * 160 * 3 * 64 * 64 * 4 <= MOST_BYTES < (at_most + 1) * 160 * 3 * 64 * 64 * 4


@pytest.mark.parametrize("module", [teacher_trajectories, forward_paths])
def test_they_come_back_from_their_file(module: Any, tmp_path: Path) -> None:
    before = measured(Denoiser(Network(), Process.cosine(40), "x0"), module)
    before.save(tmp_path / "file")
    after = module.load(tmp_path / "file")
    assert torch.equal(before.D, after.D)
    names = ("process", "indices", "levels", "split", "seed", "weights", "kind")
    assert [getattr(before, name) for name in names] == [getattr(after, name) for name in names]
    other = forward_paths if module is teacher_trajectories else teacher_trajectories
    with pytest.raises(UserError, match="does not hold statistics of the kind"):
        other.load(tmp_path / "file")


def test_trajectories_of_another_solver_are_refused(tmp_path: Path) -> None:
    measured(Denoiser(Network(), Process.cosine(40), "x0")).save(tmp_path / "file")
    with safe_open(tmp_path / "file", framework="pt") as file:
        header = json.loads(file.metadata()["fewstep"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, tmp_path / "file", {"fewstep": json.dumps({**header, "solver": "ancestral"})})
    with pytest.raises(UserError, match="of the solver 'ancestral'; allowed are those of 'ddim'"):
        TeacherTrajectories.load(tmp_path / "file")


def test_another_process_or_other_weights_are_refused() -> None:
    process = Process.cosine(40)
    teacher = measured(Denoiser(Network(), process, "x0"))
    teacher.require(Denoiser(Network(), process, "x0"))
    with pytest.raises(UserError, match="other weights"):
        teacher.require(Denoiser(Network(1.001), process, "x0"))
    with pytest.raises(UserError, match=r"are of Process\.cosine\(T=40.* cannot serve a model of Process\.edm"):
        teacher.require(Denoiser(Network(), Process.edm(40), "x0"))


def test_a_network_that_returns_nan_is_told_where() -> None:
    broken = Denoiser(Network(float("nan")), Process.cosine(40), "x0")
    with pytest.raises(UserError, match="not finite at grid index 40"):
        measured(broken)
