"""A class-conditional network on digits through every stage: each call of the network comes with labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.backbones.unet import UNet
from fewstep.data.digits import Digits
from fewstep.noise import class_labels
from fewstep.results import read_results

WORDS = [
    "+model.backbone.num_classes=10",
    "schedule_optimizer=[elbo_dp,elbo_gradient]",
    "schedule_optimizer.elbo_gradient.search.iterations=2",
    "finetune.schedule_optimizer=elbo_dp",
    "finetune.iterations=4",
    "finetune.batch_size=16",
    "finetune.validate_every=4",
    "evaluation.compared=20",
    "evaluation.fine_steps=8",
]


def test_every_stage_tells_the_network_the_classes(
    fewstep: Callable[..., Any], tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network refuses to run without labels, so that a run that ends has given them everywhere."""
    plain, seen = UNet.forward, list[Tensor]()

    def noted(self: UNet, x: Tensor, timesteps: Tensor, label: Tensor | None = None) -> Tensor:
        assert label is not None
        seen.append(label.clone())
        return plain(self, x, timesteps, label)

    monkeypatch.setattr(UNet, "forward", noted)
    outcome = fewstep(*tiny, *WORDS, f"outputs={tmp_path}")
    assert (outcome.code, outcome.err.count("fewstep:")) == (0, 0), outcome.err
    digits = Digits()
    for labels in (
        digits.labels("train")[:8],  # statistics behind the search, and samples of the gradient search
        digits.labels("test")[:8],  # statistics that judge
        digits.labels("validation"),  # validation of both trainings
        digits.labels("train")[:180],  # the training errors around tuning
        class_labels(0, range(128), 10),  # sampling, and many steps from the same noise
        class_labels(1, range(128), 10),
    ):
        assert any(torch.equal(labels, given) for given in seen)
    (folder,) = (tmp_path / "digits" / "report").iterdir()
    rows = read_results(folder / "results.csv")
    measured = {"bits_per_dim", "fid_digits", "distance_pixels", "bits_per_dim_change", "wiener_ratio_max"}
    assert measured <= set(rows.metric)
    assert rows.value.notna().all()


def test_classes_beyond_the_networks_are_refused_at_once(
    fewstep: Callable[..., Any], tiny: list[str], tmp_path: Path
) -> None:
    outcome = fewstep(*tiny, "+model.backbone.num_classes=4", f"outputs={tmp_path}")
    assert "labels of digits (train) run from 0 to 9, but the model has 4 classes" in outcome.sentence
