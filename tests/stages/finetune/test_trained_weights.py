"""Restricted fine-tuning changes the weights that were chosen and no others, killed or not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.modules.training import TrainingModule
from fewstep.results import read_results
from fewstep.run import read_record
from fewstep.trainable.all import AllWeights
from fewstep.trainable.base import Trainable
from fewstep.trainable.last_layers import LastLayers
from fewstep.trainable.low_rank import LowRank
from fewstep.weights import load_model

TRAINABLE: dict[str, Trainable] = {
    "all": AllWeights(),
    "last_layers": LastLayers(2, ["out", "output_blocks.*"]),
    "low_rank": LowRank(2, 2.0),
}
LAST = ("backbone.out.", "backbone.output_blocks.1.")


@pytest.mark.parametrize("name", TRAINABLE)
def test_only_the_chosen_weights_are_tuned(name: str, tune: Callable[..., Path], weights: Path) -> None:
    folder = tune(learning_rate=0.01, trainable=TRAINABLE[name])
    untuned, tuned = (load_model(where).state_dict() for where in (weights, folder))
    assert tuned.keys() == untuned.keys()
    changed = {key for key, value in tuned.items() if not torch.equal(value, untuned[key])}
    matrices = {key for key, value in tuned.items() if value.ndim > 1}
    expected = {
        "all": set(tuned),
        "last_layers": {key for key in tuned if key.startswith(LAST)},
        "low_rank": matrices,
    }[name]
    # Behind a convolution that is still zero nothing has a slope in the first iteration, but later all have.
    assert changed == expected
    if name == "low_rank":
        for key in matrices:
            difference = (tuned[key].double() - untuned[key].double()).flatten(1)
            assert torch.linalg.matrix_rank(difference, atol=1e-6) <= 2
    assert read_record(folder)["facts"]["improved"] is True


@pytest.mark.parametrize("name", TRAINABLE)
def test_the_number_of_trained_parameters_is_told(name: str, tune: Callable[..., Path], weights: Path) -> None:
    tensors = load_model(weights).state_dict()
    everything = sum(tensor.numel() for tensor in tensors.values())
    shapes = [tensor.flatten(1).shape for tensor in tensors.values() if tensor.ndim > 1]
    expected = {
        "all": everything,
        "last_layers": sum(tensor.numel() for key, tensor in tensors.items() if key.startswith(LAST)),
        "low_rank": sum(min(2, out, into) * (out + into) for out, into in shapes),
    }[name]
    rows = read_results(tune(trainable=TRAINABLE[name]) / "results.csv").set_index("metric").value
    assert rows["parameters"] == everything
    assert rows["trained_parameters"] == expected


@pytest.mark.parametrize("name", TRAINABLE)
def test_tuning_that_was_killed_ends_with_the_bits_of_one_that_was_not(
    name: str, tune: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"trainable": TRAINABLE[name], "learning_rate": 3e-3, "iterations": 8}
    unbroken = tune(**few, name="unbroken")
    with monkeypatch.context() as patch:
        step = TrainingModule.training_step

        def killed(module: TrainingModule, *arguments: Any) -> Tensor:
            if module.global_step == 5:
                raise KeyboardInterrupt
            return step(module, *arguments)

        patch.setattr(TrainingModule, "training_step", killed)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            tune(**few, name="broken")
    broken = tune(**few, name="broken")
    for file in ("weights.safetensors", "results.csv"):
        assert (broken / file).read_bytes() == (unbroken / file).read_bytes()
