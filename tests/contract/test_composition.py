"""Every file of conf/ composes, builds, and is called what it is: by tables, by files and by `find_schedule`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from omegaconf import OmegaConf

from fewstep.__main__ import CONF, build
from fewstep.config import Config
from fewstep.errors import UserError
from fewstep.pipeline import Pipeline
from fewstep.schema import check

Compose = Callable[..., Config]
NOWHERE = "/nowhere"  # what `composed` gives for a path that the user must give


def test_the_groups_are_those_that_are_promised(groups: set[str]) -> None:
    promised = (
        "model dataset process schedule_optimizer finetune evaluation features solver trainer logger experiment"
    )
    assert set(promised.split()) <= groups


def test_every_file_composes_and_builds(
    choice: str, composed: Compose, names: Callable[[str], list[str]], tmp_path: Path
) -> None:
    suited = ["model=unet_digits_learned"] if choice.startswith("loss@") else []  # which every loss can train
    if choice.startswith("dataset="):
        channels, size, _ = build(composed(choice).dataset).shape
        backbone = {
            "in_channels": channels,
            "out_channels": channels,
            "image_size": size,
            "attention_resolutions": [],
        }
        suited = [f"model.backbone.{name}={value}" for name, value in backbone.items()]
    if choice.startswith("model="):
        backbone = composed(choice).model["backbone"]
        shape = backbone["in_channels"], backbone["image_size"], backbone["image_size"]
        nodes = {f"dataset={name}": composed(f"dataset={name}").dataset for name in names("dataset")}
        own = {name: node for name, node in nodes.items() if "path" not in node}
        suited = [next(name for name, node in own.items() if build(node).shape == shape)]
    # Not every extractor judges digits; what it cannot judge is refused where samples are judged.
    unjudged = ["stage=search"] if choice.startswith("features=") else []
    config = composed(choice, *suited, *unjudged, f"outputs={tmp_path}")
    if NOWHERE in str(config):  # it needs files, and says so before anything is done
        with pytest.raises(UserError, match=NOWHERE):
            Pipeline(config, build)
    elif choice == "trainer=fsdp" and not torch.cuda.is_available():
        with pytest.raises(UserError, match="over GPUs"):
            Pipeline(config, build)
    else:
        Pipeline(config, build)
    assert list(tmp_path.iterdir()) == []


def test_a_model_from_a_file_is_not_trained_and_names_the_file_that_it_cannot_read(
    model_from_a_file: str, tmp_path: Path
) -> None:
    alone = [f"model={model_from_a_file}", "~experiment", "name=x", f"outputs={tmp_path / 'outputs'}"]

    def settings(*overrides: str) -> dict[str, Any]:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            composed = OmegaConf.to_container(hydra.compose("config", [*alone, *overrides]), resolve=True)
        assert isinstance(composed, dict)
        return {str(key): value for key, value in composed.items()}

    assert settings()["pretrain"]["iterations"] == 0
    with pytest.raises(UserError, match=r"^model\.path must be given"):
        check(settings(), Config)
    for path, content in ((tmp_path / "absent", None), (tmp_path / "text", "no weights")):
        if content is not None:
            path.write_text(content)
        sound = settings(f"model.path={path}")
        check(sound, Config)
        with pytest.raises(UserError, match=re.escape(str(path))):
            Pipeline(Config(**sound), build)
    assert not (tmp_path / "outputs").exists()


def test_an_experiment_of_files_asks_for_its_paths_alone(experiment_of_files: str, tmp_path: Path) -> None:
    """And with them is sound up to the first file that it cannot read."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose(
            "config", [f"experiment={experiment_of_files}", f"outputs={tmp_path / 'outputs'}"]
        )
    assert OmegaConf.missing_keys(composed) == {"model.path", "dataset.path"}
    for key in OmegaConf.missing_keys(composed):
        OmegaConf.update(composed, key, str(tmp_path / "absent"))
    plain = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(plain, dict)
    settings = {str(key): value for key, value in plain.items()}
    check(settings, Config)
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "absent"))):
        Pipeline(Config(**settings), build)
    assert not (tmp_path / "outputs").exists()


def test_everything_at_once_composes(names: Callable[[str], list[str]], composed: Compose, tmp_path: Path) -> None:
    every = [f"{group}=[{','.join(names(group))}]" for group in ("schedule_optimizer", "solver")]
    config = composed(*every, f"outputs={tmp_path}")
    assert [*config.schedule_optimizer] == names("schedule_optimizer")
    assert [*config.solver] == names("solver")
    Pipeline(config, build)


def test_a_schedule_optimizer_is_named_after_its_objective_and_search(
    optimizer: Any, names: Callable[[str], list[str]]
) -> None:
    name, objective, search = optimizer
    assert name == (search.name if objective is None else f"{objective.name}_{search.name}")
    assert search.needs_objective == (objective is not None)
    assert name in names("schedule_optimizer")


def test_a_solver_is_named_after_its_file(solver_name: str, composed: Compose) -> None:
    ((key, node),) = composed(f"solver=[{solver_name}]").solver.items()
    assert key == solver_name == build(node).name


def test_a_process_is_named_after_its_file_and_has_a_smallest_noise_level(
    process_name: str, composed: Compose
) -> None:
    process = build(composed(f"process={process_name}", "process.smallest_noise_level=0.03").process)
    assert process.name == process_name
    assert process.noise_level(process.grid[1]).item() == pytest.approx(0.03, rel=1e-9)


def test_a_dataset_is_named_after_its_file_and_states_its_levels(dataset_name: str, composed: Compose) -> None:
    config = composed(f"dataset={dataset_name}")
    dataset = build(config.dataset)
    assert dataset.name == dataset_name
    assert dataset.levels == config.levels
    assert len(dataset.shape) == 3


def test_a_dataset_states_its_standard_deviation(own_dataset_name: str, composed: Compose) -> None:
    config = composed(f"dataset={own_dataset_name}")
    dataset = build(config.dataset)
    images = dataset.images("train").double()
    assert images.shape[1:] == dataset.shape
    assert config.data_std == pytest.approx(images.var(0).mean().sqrt().item(), abs=5e-4)
