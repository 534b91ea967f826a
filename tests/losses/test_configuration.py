"""A loss is a section of its own under pretrain: typos, and a network that it cannot train, end a run at once."""

from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from fewstep.__main__ import CONF, build
from fewstep.config import Config
from fewstep.errors import UserError
from fewstep.pipeline import Pipeline
from fewstep.schema import check


def settings(*overrides: str) -> dict[str, Any]:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = OmegaConf.to_container(hydra.compose("config", list(overrides)), resolve=True)
    assert isinstance(composed, dict)
    return {str(key): value for key, value in composed.items()}


def test_the_loss_has_the_levels_of_the_data() -> None:
    loss = build(settings("loss@pretrain.loss=hybrid", "levels=33")["pretrain"]).loss
    assert (loss.name, loss.levels, loss.vlb_weight) == ("hybrid", 33, 1e-3)


def test_the_simple_loss_is_the_default() -> None:
    assert build(settings()["pretrain"]).loss.name == "simple"


@pytest.mark.parametrize(
    "override, sentence",
    [
        ("+pretrain.loss.vlb_wieght=1", r"pretrain.loss.vlb_wieght is not a setting of HybridLoss; did you mean"),
        ("pretrain.loss.vlb_weight=much", r"pretrain.loss.vlb_weight is 'much', but must be a number"),
        ("pretrain.loss._target_=fewstep.losses.hybrid.Hybrid", r"has no 'Hybrid'; did you mean .*HybridLoss"),
        ("pretrain.loss=hybrid", r"pretrain.loss is 'hybrid', but must be a section that describes Loss"),
    ],
)
def test_a_typo_is_a_sentence(override: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check(settings("loss@pretrain.loss=hybrid", override), Config)


@pytest.mark.parametrize("name", ["hybrid", "vlb"])
def test_a_network_that_learns_no_variance_is_refused_before_any_work(name: str, tmp_path: Path) -> None:
    config = Config(**settings(f"loss@pretrain.loss={name}", "process.T=8", "steps=[2]", f"outputs={tmp_path}"))
    with pytest.raises(UserError, match=f"loss '{name}' trains a learned variance.*unet_digits_learned"):
        Pipeline(config, build)
    assert list(tmp_path.iterdir()) == []
