"""The command `fewstep`: Hydra composes, the pipeline runs. The only file that imports hydra."""

import logging
import os
import sys
import warnings
from pathlib import Path

import hydra
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

import fewstep
from fewstep.config import Config
from fewstep.errors import UserError
from fewstep.schema import check

PACKAGE = Path(fewstep.__file__).parent
# In a checkout conf/ stands at the top level; in a wheel it travels inside the package.
CONF = next(path for path in (PACKAGE / "conf", PACKAGE.parent.parent / "conf") if path.is_dir())


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _job(composed: DictConfig) -> None:
    """One job: a single run, or one of a sweep."""
    from fewstep.pipeline import Pipeline  # heavy imports only after the configuration composed

    plain = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(plain, dict)
    check(plain, Config)
    config = Config(**plain)
    _quieten_lightning()
    if config.threads:
        torch.set_num_threads(config.threads)
    table = Pipeline(config, instantiate).run()
    if table:
        print(table)


def main() -> None:
    """Console entry: what the user got wrong is one sentence and exit code 2, without a traceback."""
    try:
        _job()
    except UserError as error:
        if os.environ.get("FEWSTEP_TRACEBACK"):
            raise
        sys.exit(f"fewstep: {error}")


def _quieten_lightning() -> None:
    """Lightning's advice on workers and loaders does not fit rows of work that are made on the spot."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (".*does not have many workers.*", ".*`IterableDataset` has `__len__`.*", ".*GPU available.*"):
        warnings.filterwarnings("ignore", message=message)


if __name__ == "__main__":
    main()
