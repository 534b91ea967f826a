"""The command `fewstep`: Hydra composes, the pipeline runs. Only this file and `callbacks.py` import hydra."""

import hashlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from traceback import walk_tb
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fewstep.callbacks import TRACEBACK, Outcome, Study, Sweep, threads_beside_others
from fewstep.config import Config
from fewstep.errors import UserError
from fewstep.schema import check, closest, unknown
from fewstep.sweep import unfinished

__all__ = ["CONF", "Study", "Sweep", "build", "explained", "main"]

PACKAGE = Path(__file__).parent
# In a checkout conf/ stands at the top level; in a wheel it travels inside the package.
CONF = next(path for path in (PACKAGE / "conf", PACKAGE.parent.parent / "conf") if path.is_dir())
# What the extra `sweeps` adds to Hydra's groups.
PLUGINS = {"hydra/launcher": ("joblib", "submitit_local", "submitit_slurm"), "hydra/sweeper": ("optuna",)}


def shortened(name: str, longest: int = 120) -> str:
    """A name as that of one folder: no slashes, not the folder above, and a hash in place of what is too long."""
    name = re.sub(r"^\.+$", "_", name.replace("/", "_"))
    if len(name) <= longest:
        return name or "job"
    return f"{name[:longest]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def word(dotted: str) -> str:
    """The last part of a dotted path, such as linear of fewstep.process.Process.linear."""
    return dotted.rpartition(".")[2]


for resolver in (shortened, word):
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)


def _compose(words: Sequence[str], job: Callable[[Config], object]) -> None:
    """Have Hydra compose a configuration from words, or those of a sweep, and do a job with each.

    Args:
        words: those of the command line.
        job: is given a sound configuration.
    """

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def composed(node: DictConfig) -> object:
        plain = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
        assert isinstance(plain, dict)
        settings: dict[str, Any] = {str(key): value for key, value in plain.items()}
        try:
            check(settings, Config)
            config = Config(**settings)
            return _in_job(job, replace(config, threads=config.threads or threads_beside_others()))
        except UserError as error:
            if Sweep.goes_on():
                raise
            _end(error)  # here, because Hydra would print the job's overrides first

    if os.environ.get("HYDRA_FULL_ERROR"):
        os.environ[TRACEBACK] = "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach main instead of being printed by Hydra
    sys.argv[1:] = words
    composed()


def _compose_only(words: Sequence[str], job: Callable[[Config], object]) -> None:
    """The same without a trace on the disk: one job after another in this process, up to the first that fails."""
    ours = [word for word in words if not word.lstrip("+~").startswith(("hydra/launcher", "hydra.launcher"))]
    quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.output_subdir=null"]
    here = ["hydra/launcher=basic", "~hydra.callbacks.sweep"]

    def alike(config: Config) -> float:
        job(config)
        return 0.0  # to a sweeper that draws jobs by how the earlier ones did

    with TemporaryDirectory() as nowhere:
        folders = [f"hydra.run.dir='{nowhere}'", f"hydra.sweep.dir='{nowhere}'", "hydra.sweep.subdir=job"]
        _compose([*ours, *quiet, *here, *folders], alike)


def _in_job(job: Callable[[Config], object], config: Config) -> object:
    import torch  # heavy imports only for a configuration that is sound

    _quieten()
    if config.threads:
        torch.set_num_threads(config.threads)
    return job(config)


def _pipeline(config: Config) -> Outcome:
    from fewstep.pipeline import Pipeline

    pipeline = Pipeline(config, build)
    print(pipeline.run())
    return Outcome(pipeline.reported, pipeline.returned)


def _export(words: Sequence[str]) -> None:
    from fewstep.commands import export

    try:
        export.main(words)
    except UserError as error:
        _end(error)


def _plan(words: Sequence[str]) -> None:
    from fewstep.commands import plan

    plan.main(words, _compose_only, build)


def _jobs(words: Sequence[str]) -> None:
    from fewstep.commands import jobs

    jobs.main(words, _compose_only, lambda: list(HydraConfig.get().overrides.task))


# `fewstep <command> …` → what is done with the words behind it; without a command the stages are run.
COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {"export": _export, "jobs": _jobs, "plan": _plan}


def _end(error: UserError) -> NoReturn:
    if os.environ.get(TRACEBACK):
        raise error
    sys.exit(f"fewstep: {error}")


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
    words = sys.argv[1:]
    try:
        if words and words[0] in COMMANDS:
            COMMANDS[words[0]](words[1:])
        else:
            _compose(words, _pipeline)
    except (KeyboardInterrupt, SystemExit) as error:
        # Lightning turns an interruption into an exit without a word.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, KeyboardInterrupt):
            raise
        sys.exit("fewstep: interrupted; the same command goes on from here.")
    except Exception as error:
        if os.environ.get(TRACEBACK) or not _of_the_command_line(error):
            raise
        failed = None if Sweep.running is None else unfinished(Sweep.running.read())
        sys.exit("\n".join(filter(None, [f"fewstep: {UserError(explained(error))}", failed])))
    finally:
        Sweep.close()


def _of_the_command_line(error: Exception) -> bool:
    """Whether the error is about how the configuration was put together, and not from the run itself."""
    if isinstance(error, HydraException | OmegaConfBaseException | UserError):
        return True
    work = (_in_job.__code__, _export.__code__)
    return all(frame.f_code not in work for frame, _ in walk_tb(error.__traceback__))


def explained(error: Exception) -> str:
    """Hydra's message as one sentence that names what was given and its likely intent."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if name in PLUGINS.get(group, ()):
            return f"{group}={name} needs a plugin that is not installed; pip install 'fewstep[sweeps]' brings it."
        options = error.options or [path.stem for path in (CONF / group).glob("*.yaml")]
        return str(unknown(group or "configuration", name, sorted(options)))
    if isinstance(error, OSError):
        where = error.filename or "A note on the job"
        return f"{where} cannot be written ({error.strerror}); set outputs to another."
    text = f"{error}\n{error.__cause__ or ''}"
    if "finetune=none" in sys.argv and re.search(r"'finetune\.|key trainable", text):
        return (
            "finetune=none turns fine-tuning off, but settings of it are given too, here or by the experiment or "
            "part; leave them out, or take finetune=restricted."
        )
    # The cause names the very key where a whole mapping was given.
    for pattern in (
        r"Interpolation key '([^']+)' not found",
        r"Could not override [\s\S]*full_key: (\S+)",
        r"Could not override '([^']+)'",
    ):
        key = re.search(pattern, text)
        if key:
            likely = closest(key.group(1), [*_groups(), *_keys()])
            hint = f"did you mean {likely!r}? " if likely and likely != key.group(1) else ""
            return f"There is no setting {key.group(1)!r}; {hint}`fewstep --cfg job` prints all of them."
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return f"The setting {missing.group(1)} has no value; give one, such as {missing.group(1)}=…."
    if text.startswith("Config group override must be"):
        given = ", ".join(word for word in sys.argv[1:] if word.partition("=")[0] in ("", *_groups()))
        return f"A group is set to the name of one of its options, or to a list of them; given was {given}."
    return " ".join(str(error).split())


def _groups() -> list[str]:
    """The groups as a command names them: with their place, such as loss@pretrain.loss, where they have one."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        choices = hydra.compose("config", return_hydra_config=True).hydra.runtime.choices
    named = {str(choice).partition("@")[0]: str(choice) for choice in choices}
    folders = (path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")
    return sorted(named.get(folder, folder) for folder in folders)


def _keys() -> list[str]:
    """The dotted keys of the configuration with the groups that the command chose, or of the default one."""
    groups = _groups()
    chosen = [word for word in sys.argv[1:] if word.partition("=")[0] in groups]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            composed = hydra.compose("config", chosen)
        except Exception:  # a choice is at fault itself, or belongs to a sweep or to a folder of the user's own
            composed = hydra.compose("config")
        plain = OmegaConf.to_container(composed, resolve=False)
    return [key for key in _dotted(plain) if not key.rpartition(".")[2].startswith("_")]


def _dotted(node: object, prefix: str = "") -> Iterator[str]:
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield f"{prefix}{name}"
            yield from _dotted(child, f"{prefix}{name}.")


def _quieten() -> None:
    """Lightning's advice on workers and loaders does not fit rows of work that are made on the spot.

    Nor is a log on a full disk worth a traceback.
    """
    logging.raiseExceptions = False
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*`IterableDataset` has `__len__`.*",
        ".*isinstance.treespec, LeafSpec.*",
        ".*exists and is not empty.*",
        ".*Trainer.fit. stopped.*",
    ):
        warnings.filterwarnings("ignore", message=message)


if __name__ == "__main__":  # as the module that it is: what jobs in other processes are sent refers to it by name
    from fewstep.__main__ import main as named_main

    named_main()
