"""A job on several devices: a process per device, each of them a rank (fewstep.ranks).

This process starts the ranks and watches over them, or somebody has started it as one of them: torchrun, or srun.
Of those rank 0 alone reads the command line, and tells the others the configuration of each job, because a sweep
that samples would draw another one in every process.
"""

import itertools
import json
import logging
import logging.config
import multiprocessing.connection
import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_only  # type: ignore[attr-defined]
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes
from tqdm import tqdm

from fewstep.cluster import given_ranks
from fewstep.config import Config
from fewstep.errors import TRACEBACK, FailedElsewhere, UserError
from fewstep.modules.trainers import MakeTrainer, check_trainer, device_of
from fewstep.sweep import Outcome

# The others may wait for another job's work; that one has died is noticed by whoever has started it.
LONGEST = timedelta(days=7)
MEETING = timedelta(minutes=30)  # until all ranks have started
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "fsdp", "fsdp_cpu_offload")
GRACE = 5.0  # seconds that ranks have to end by themselves, and then to end when told to
ERROR, OUTCOME, DISMISSED = "error", "outcome", "dismissed"
_numbers = itertools.count()  # of this process's jobs


Job = Callable[[Config], Outcome]


def launch(job: Job, config: Config, build: Callable[[Any], Any], log_settings: Mapping[str, Any]) -> Outcome:
    """Do a job on the devices that its configuration asks for, or as one of the ranks that there are.

    Args:
        job: a function of a module; it is called in every rank.
        config: the configuration.
        build: instantiates a node of it.
        log_settings: of the logging module, for rank 0 in a process of its own.

    Raises:
        UserError: settings that do not fit each other or the ranks; what the user got wrong, on whichever rank.
        RuntimeError: another failure of a rank, with its traceback.
    """
    if given_ranks() > 1:
        return _as_given_rank(job, config, build)
    settings = config.trainer
    if settings.get("devices", 1) == 1 and settings.get("num_nodes", 1) == 1:
        return _alone(job, config)
    strategy = settings.get("strategy", "auto")
    if isinstance(strategy, str) and strategy not in STRATEGIES:
        allowed = ", ".join(STRATEGIES)
        raise UserError(f"trainer.strategy is {strategy!r}; allowed on several devices are {allowed}.")
    devices, nodes = _asked_for(build(settings))
    if nodes > 1:
        raise UserError(
            f"trainer.num_nodes is {nodes}, but this is one process on one node; start it on all of them with "
            "torchrun or srun (docs/devices.md)."
        )
    return _alone(job, config) if devices == 1 else _start(job, config, build, devices, log_settings)


def _alone(job: Job, config: Config) -> Outcome:
    try:
        return job(config)
    finally:
        if torch.distributed.is_initialized():  # by a strategy for several devices, of one
            torch.distributed.destroy_process_group()


def follow(job: Job, build: Callable[[Any], Any]) -> None:
    """As a rank > 0 that somebody else has started: do the jobs that rank 0 tells, until it has no more."""
    for number in itertools.count():
        words = _told(number)
        if not words:
            _store().add(DISMISSED, 1)
            return
        _as_given_rank(job, Config(**json.loads(words)), build)


def dismiss() -> None:
    """As rank 0 of those that somebody else has started: tell the others that there are no more jobs."""
    _store().set(_key(next(_numbers)), "")
    deadline = time.monotonic() + GRACE
    while (
        _store().add(DISMISSED, 0) < given_ranks() - 1 and time.monotonic() < deadline
    ):  # this rank may hold the store
        time.sleep(0.05)


# Ranks that somebody else has started


def _as_given_rank(job: Job, config: Config, build: Callable[[Any], Any]) -> Outcome:
    config = _on_given_ranks(config)
    number = next(_numbers)
    if os.environ["RANK"] == "0":
        _store().set(_key(number), json.dumps(asdict(config)))
    else:
        _be_quiet()
    try:
        with _together(_store(), number, device_of(build(config.trainer))):
            return job(config)
    except UserError as error:
        # The others wait for this rank: who has started them ends them once it has ended, and a sweep with them.
        raise SystemExit(1 if isinstance(error, FailedElsewhere) else f"fewstep: {error}") from error


def _on_given_ranks(config: Config) -> Config:
    """The configuration with as many devices and nodes as there are ranks."""
    world, local = given_ranks(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = world // local
    settings = dict(config.trainer)
    for name, given, there in (
        ("devices", settings.get("devices", 1), local),
        ("num_nodes", settings.get("num_nodes", 1), nodes),
    ):
        number = len(given) if isinstance(given, list) else given
        if number not in (1, there, "auto", -1):
            raise UserError(
                f"trainer.{name} is {given}, but there are {world} ranks, {local} on each of {nodes} nodes; set "
                f"it to {there}, or leave it out."
            )
        settings[name] = given if isinstance(given, list) and number == there else there
    return replace(config, trainer=settings)


@cache
def _store() -> TCPStore:
    """Where the ranks that torchrun or srun have started meet."""
    host, port, world = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), given_ranks()
    holds = os.environ["RANK"] == "0" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    return TCPStore(host, port, world, holds, timeout=MEETING, wait_for_workers=False)


def _key(number: int) -> str:
    return f"fewstep job {number}"


def _told(number: int) -> str:
    store = _store()
    store.wait([_key(number)], LONGEST)
    return store.get(_key(number)).decode()


# Ranks that this process starts


def _start(
    job: Job, config: Config, build: Callable[[Any], Any], world: int, log_settings: Mapping[str, Any]
) -> Outcome:
    """Start the ranks, each a process, and wait for their end; that of one is that of all."""
    logging.getLogger("torch.multiprocessing").setLevel(logging.ERROR)
    store = TCPStore("127.0.0.1", 0, is_master=True, timeout=MEETING, wait_for_workers=False)
    arguments = (job, config, build, world, store.port, dict(log_settings))
    ranks = start_processes(_rank, arguments, nprocs=world, join=False)
    exit_codes: list[int | None] = []
    try:
        ended = False
        while not ended:
            ready = multiprocessing.connection.wait(ranks.sentinels)
            for process in ranks.processes:
                if process.sentinel in ready:
                    process.join()
            exit_codes = [process.exitcode for process in ranks.processes]  # before the others are ended
            ended = ranks.join(grace_period=GRACE)
    except (ProcessExitedException, ProcessRaisedException) as error:
        raise _failure(error, exit_codes, store) from None
    finally:
        for process in ranks.processes:  # of an interruption
            if process.is_alive():
                process.kill()
    if not store.check([OUTCOME]):
        raise KeyboardInterrupt  # ranks that were interrupted end without a word
    told, report, returned = json.loads(store.get(OUTCOME))
    return Outcome(told, None if report is None else Path(report), returned)


def _failure(
    error: ProcessExitedException | ProcessRaisedException, exit_codes: list[int | None], store: TCPStore
) -> Exception:
    """What to raise for the rank that failed first."""
    if store.check([ERROR]):
        return UserError(store.get(ERROR).decode())
    world, number = len(exit_codes), error.error_index
    # A rank that is killed takes others with it, whose own errors only say that they lost it.
    killed = {rank: signal.Signals(-code).name for rank, code in enumerate(exit_codes) if code and code < 0}
    if isinstance(error, ProcessRaisedException) and not killed:
        return RuntimeError(f"Rank {number} of {world} failed.{error}")
    number = next(iter(killed), number)
    reason = killed.get(number, f"exit code {exit_codes[number]}")
    return UserError(
        f"Rank {number} of {world} ended with {reason}, and the others were ended; the same command goes on from "
        "here."
    )


def _rank(
    number: int,
    job: Job,
    config: Config,
    build: Callable[[Any], Any],
    world: int,
    port: int,
    log_settings: Mapping[str, Any],
) -> None:
    """What a process does that is a rank."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.pid,), daemon=True).start()
    own = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "fewstep"}
    os.environ |= {name: str(value) for name, value in (own | place).items()}
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a rank that is killed leaves behind
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    if number > 0:
        _be_quiet()
    elif log_settings:
        logging.config.dictConfig(dict(log_settings))
    store = TCPStore("127.0.0.1", port, is_master=False, timeout=MEETING)
    try:
        with _together(store, 0, device_of(build(config.trainer))):
            told, report, returned = job(config)
    except UserError as error:
        if not isinstance(error, FailedElsewhere):
            store.compare_set(ERROR, "", str(error))
            if os.environ.get(TRACEBACK):
                traceback.print_exc()
        raise SystemExit(1) from error
    if number == 0:
        store.set(OUTCOME, json.dumps([told, None if report is None else str(report), returned]))


# All ranks


@contextmanager
def _together(store: TCPStore, number: int, device: torch.device) -> Iterator[None]:
    """The process group of a job while it lasts."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    rank_zero_only.rank = rank  # type: ignore[attr-defined]
    if "OMP_NUM_THREADS" not in os.environ:  # ranks side by side would wait for each other's threads
        torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ["LOCAL_WORLD_SIZE"])))
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    torch.distributed.init_process_group(
        backend, store=PrefixStore(_key(number), store), rank=rank, world_size=world, timeout=LONGEST
    )
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def _asked_for(trainer: MakeTrainer) -> tuple[int, int]:
    """The devices of a node, and the nodes."""
    made = check_trainer(trainer)
    return made.num_devices, made.num_nodes


def _end_with(parent: int) -> None:
    """End this process as soon as the one that has started it has ended, wherever it waits."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _be_quiet() -> None:
    """Rank 0 speaks for all."""
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
