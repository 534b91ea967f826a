"""The text for ComfyUI holds the sigmas as float32 has them, in a form that no reader of numbers misreads."""

import re

import numpy as np
import pytest

from fewstep.errors import UserError
from fewstep.exports import comfyui
from fewstep.process import Process
from fewstep.schedule import Schedule


@pytest.mark.parametrize(
    "process", [Process.scaled_linear(1000), Process.cosine(1000), Process.edm(1000, 1e-7, 80.0)], ids=repr
)
def test_it_holds_every_sigma_without_an_exponent(process: Process) -> None:
    schedule = Schedule.on_grid([0, 1, 2, 3, 400, 998, 999, 1000], process)
    text = comfyui.export(schedule)
    numbers = re.findall(r"[-+]?(?:\d*\.*\d+)", text)  # of one without exponents
    assert [np.float32(number) for number in numbers] == [np.float32(sigma) for sigma in schedule.sigmas()]
    assert [np.float32(number) for number in text.split(",")] == [np.float32(sigma) for sigma in schedule.sigmas()]
    assert text.endswith(", 0.0")


def test_an_infinite_noise_level_is_refused() -> None:
    with pytest.raises(UserError, match="infinite"):
        comfyui.export(Schedule.on_grid([0, 9, 40], Process.cosine(40, zero_terminal_snr=True)))
