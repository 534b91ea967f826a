"""What `find_schedule` cannot use is refused in one sentence, before the network is called or where it errs."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import fewstep
from fewstep.data.digits import Digits
from fewstep.denoiser import Denoiser
from fewstep.process import Process
from fewstep.schedule import Schedule

T = 20
PROCESS = Process.cosine(T, 1 / 16)
IMAGES = Digits().images("train")[:12]


def identity(x: Tensor, time: Tensor) -> Tensor:
    return x


def search(denoiser: Any, **more: Any) -> dict[int, Schedule]:
    given = {"process": PROCESS, "images": IMAGES, "steps": [1, 4, T], "levels": 17, "progress": False}
    return fewstep.find_schedule(denoiser, **(given | more))


REFUSED = {
    "the parameterisation is not stated": (
        {},
        "State what the network returns: parameterisation='eps', 'v', 'x0'",
    ),
    "an unknown parameterisation": ({"parameterisation": "epsilon"}, "'epsilon'; allowed are eps, v, x0, edm"),
    "an unknown objective": (
        {"objective": "elbow"},
        "no objective 'elbow'; did you mean 'elbo'.* Allowed: .*elbo",
    ),
    "an unknown search": ({"search": "dpp"}, "no search 'dpp'; did you mean 'dp'.* Allowed: .*dp, even, .*karras"),
    "no objective where one is needed": ({"objective": None}, "objective"),
    "no steps": ({"steps": []}, "at least one"),
    "zero steps": ({"steps": [0]}, "from 1 to 20; given was 0"),
    "too many steps": ({"steps": [21]}, "from 1 to 20; given was 21"),
    "steps that are no list": ({"steps": 8}, "steps is 8; it must be a list of whole numbers"),
    "steps that are text": ({"steps": "48"}, "steps is '48'; it must be a list of whole numbers"),
    "a fraction of a step": ({"steps": [2.5]}, r"steps is \[2.5\]; it must be a list of whole numbers"),
    "true steps": ({"steps": [True]}, "given was True"),
    "repeated steps": ({"steps": [4, 4]}, "given once"),
    "images of numpy": ({"images": IMAGES.numpy()}, r"float tensor \[B, C, H, W\], not a ndarray"),
    "one grey level": ({"levels": 1}, "at least 2; given was 1"),
    "labels of other images": ({"labels": torch.zeros(3)}, r"tensor \[12\], one for each image; given was \[3\]"),
    "a list of labels": ({"labels": [0] * 12}, r"tensor \[12\], one for each image; given was list"),
    "no batch": ({"batch_size": 0}, "batch_size is 0, but must be at least 1"),
    "a negative seed": ({"seed": -1}, "seed is -1; allowed are whole numbers from 0"),
    "half a seed": ({"seed": 0.5}, "seed is 0.5; allowed are whole numbers from 0"),
    "a process's name": ({"process": "cosine"}, "must be a Process, such as .*; given was 'cosine'"),
    "no images": ({"images": IMAGES[:0]}, "holds no images"),
    "images without channels": ({"images": IMAGES[:, 0]}, r"\[B, C, H, W\]"),
    "images in 0 … 16": ({"images": (IMAGES + 1) * 8}, r"\[-1, 1\]"),
    "whole numbers": ({"images": IMAGES.long()}, "float"),
    "other grey levels": ({"images": IMAGES, "levels": 256}, "256 grey levels"),
    "another process's denoiser": (
        {"process": Process.linear(40)},
        r"made for Process.cosine\(T=20, .*\); given was Process.linear\(T=40",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_one_sentence(what: str) -> None:
    options, sentence = REFUSED[what]
    given: Any = identity
    if what == "another process's denoiser":
        given = Denoiser(given, PROCESS, "x0")
    elif "parameterisation" not in what:
        options = {"parameterisation": "x0"} | options
    with pytest.raises(fewstep.UserError, match=sentence) as raised:
        search(given, **options)
    assert "\n" not in str(raised.value)


def test_a_parameterisation_beside_a_denoiser_is_refused() -> None:
    with pytest.raises(fewstep.UserError, match="states its own parameterisation"):
        search(Denoiser(identity, PROCESS, "x0"), parameterisation="x0")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_network_that_returns_nan_is_named_with_the_timestep(value: float) -> None:
    def broken(x: Tensor, time: Tensor) -> Tensor:
        return torch.where(time[:, None, None, None] == 6, value, x)

    with pytest.raises(fewstep.UserError, match="not finite at grid index 7"):
        search(broken, parameterisation="x0")


def test_a_network_of_another_shape_is_named() -> None:
    with pytest.raises(fewstep.UserError, match=r"returned shape \(12, 3, 8, 8\) for input \(12, 1, 8, 8\)"):
        search(lambda x, time: x.expand(-1, 3, -1, -1), parameterisation="x0")


def test_a_network_that_returns_more_than_a_tensor_is_told_to_be_wrapped() -> None:
    with pytest.raises(fewstep.UserError, match="returned a tuple, but must return a tensor; wrap it"):
        search(lambda x, time: (x,), parameterisation="x0")


def test_a_network_is_something_that_can_be_called() -> None:
    with pytest.raises(fewstep.UserError, match=r"must be a callable \(x_t, time\); given was a int"):
        search(3, parameterisation="x0")
