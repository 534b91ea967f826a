"""Every file of conf/ composes, builds, and is called what it is: by tables, by files and by `find_schedule`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewstep.__main__ import build
from fewstep.config import Config
from fewstep.pipeline import Pipeline

Compose = Callable[..., Config]


def test_the_groups_are_those_that_are_promised(groups: set[str]) -> None:
    promised = (
        "model dataset process schedule_optimizer finetune evaluation features solver trainer logger experiment"
    )
    assert set(promised.split()) <= groups


def test_every_file_composes_and_builds(choice: str, composed: Compose, tmp_path: Path) -> None:
    learned = ["model=unet_digits_learned"] if choice.startswith("loss@") else []  # which every loss can train
    # Not every extractor judges digits; what it cannot judge is refused where samples are judged.
    unjudged = ["stage=search"] if choice.startswith("features=") else []
    config = composed(choice, *learned, *unjudged, f"outputs={tmp_path}")
    Pipeline(config, build)
    assert list(tmp_path.iterdir()) == []


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
    images = dataset.images("train").double()
    assert images.shape[1:] == dataset.shape
    assert config.data_std == pytest.approx(images.var(0).mean().sqrt().item(), abs=5e-4)
