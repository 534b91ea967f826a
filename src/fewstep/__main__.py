"""The command `fewstep`: Hydra composes, the pipeline runs. The only file that imports hydra."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fewstep.config import Config
from fewstep.errors import UserError
from fewstep.schema import check, closest, unknown

PACKAGE = Path(__file__).parent
# In a checkout conf/ stands at the top level; in a wheel it travels inside the package.
CONF = next(path for path in (PACKAGE / "conf", PACKAGE.parent.parent / "conf") if path.is_dir())
TRACEBACK = "FEWSTEP_TRACEBACK"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _job(composed: DictConfig) -> None:
    """One job: a single run, or one of a sweep."""
    plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    settings: dict[str, Any] = {str(key): value for key, value in plain.items()}
    try:
        check(settings, Config)
        _run(Config(**settings))
    except UserError as error:
        if os.environ.get(TRACEBACK):
            raise
        sys.exit(f"fewstep: {error}")  # here, because Hydra would print the job's overrides first


def _run(config: Config) -> None:
    import torch  # heavy imports only for a configuration that is sound

    from fewstep.pipeline import Pipeline

    _quieten_lightning()
    if config.threads:
        torch.set_num_threads(config.threads)
    print(Pipeline(config, build).run())


def build(node: Any) -> Any:
    """The object that a node of the configuration describes.

    Raises:
        UserError: as the object's own constructor raises it, out of Hydra's wrapping.
    """
    try:
        return instantiate(node)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__
        raise cause or error from None


def main() -> None:
    """Console entry: what the user got wrong is one sentence and exit code 1; FEWSTEP_TRACEBACK=1 shows where."""
    if os.environ.get("HYDRA_FULL_ERROR"):
        os.environ[TRACEBACK] = "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach this function instead of being printed by Hydra
    try:
        _job()
    except (HydraException, OmegaConfBaseException) as error:
        if os.environ.get(TRACEBACK):
            raise
        sys.exit(f"fewstep: {explained(error)}")
    except KeyboardInterrupt:
        sys.exit("fewstep: interrupted; the same command goes on from here.")


def explained(error: Exception) -> str:
    """Hydra's message as one sentence that names what was given and its likely intent."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return str(unknown(group or "configuration", name, sorted(error.options or ())))
    key = re.search(r"Could not (?:override|append to|delete from config\. ) ?'([^']+)'", text)
    if key:
        likely = closest(key.group(1), [*_groups(), *_keys()])
        hint = f"did you mean {likely!r}? " if likely else ""
        return f"There is no setting {key.group(1)!r}; {hint}`fewstep --cfg job` prints all of them."
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return f"The setting {missing.group(1)} has no value; give one, such as {missing.group(1)}=…."
    return " ".join(text.split())


def _groups() -> list[str]:
    return sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")


def _keys() -> list[str]:
    """The dotted keys of the default configuration."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = OmegaConf.to_container(hydra.compose("config"), resolve=False)
    return [key for key in _dotted(composed) if not key.rpartition(".")[2].startswith("_")]


def _dotted(node: object, prefix: str = "") -> Iterator[str]:
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield f"{prefix}{name}"
            yield from _dotted(child, f"{prefix}{name}.")


def _quieten_lightning() -> None:
    """Lightning's advice on workers and loaders does not fit rows of work that are made on the spot."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*`IterableDataset` has `__len__`.*",
        ".*isinstance.treespec, LeafSpec.*",
        ".*exists and is not empty.*",
        ".*Trainer.fit. stopped.*",
    ):
        warnings.filterwarnings("ignore", message=message)


if __name__ == "__main__":
    main()
