"""What a dashboard says of a job: one run per job, named by its configuration."""

from pathlib import Path
from typing import Any

from fewstep.config import Config
from fewstep.modules.trainers import arithmetic_of
from fewstep.provenance import fingerprint

_CHANGE_NO_NUMBER = ("logger", "outputs", "threads")


def description(config: Config) -> dict[str, Any]:
    """The configuration, without what changes no number."""
    return {key: value for key, value in vars(config).items() if key not in _CHANGE_NO_NUMBER}


def job_name(config: Config) -> str:
    """What a job is called: by the user, or by its stage, its part, its seed and its configuration."""
    named = fingerprint(description(config) | {"trainer": arithmetic_of(config.trainer)})
    parts = [config.run_name, config.stage, config.part, f"seed{config.seed}", named]
    return "-".join(part for part in parts if part)


def folder_of(root: Path, config: Config) -> Path:
    """Where a job's dashboard keeps its files, below the experiment's folder `root`."""
    return root / "dashboard" / job_name(config)


def tags_of(config: Config) -> list[str]:
    """What runs are filtered by: dataset, process, schedule optimizers."""
    targets = (config.dataset["_target_"], config.process["_target_"])
    return [*(str(target).rpartition(".")[2].lower() for target in targets), *config.schedule_optimizer]
