"""The ranks that torchrun or srun have started, this process among them, told by the variables of torchrun."""

import os
import re
from collections.abc import MutableMapping

PORTS = range(15000, 25000)  # of the steps of a cluster's jobs


def given_ranks() -> int:
    """How many ranks there are; 1 where nobody has started any."""
    adopt_slurm(os.environ)
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def follows() -> bool:
    """Whether this process is one of several ranks and not the first."""
    return given_ranks() > 1 and int(os.environ["RANK"]) > 0


def adopt_slurm(environment: MutableMapping[str, str]) -> None:
    """State a task's rank in the variables of torchrun, where srun has started several tasks.

    A script for sbatch that does without srun is one process, however many tasks it has asked for.
    """
    given = environment.get
    if "RANK" in environment or int(given("SLURM_STEP_NUM_TASKS", "1")) <= 1:
        return
    world, nodes = int(environment["SLURM_STEP_NUM_TASKS"]), int(given("SLURM_STEP_NUM_NODES", "1"))
    step = int(environment["SLURM_JOB_ID"]) + int(given("SLURM_STEP_ID", "0"))
    stated = {
        "RANK": environment["SLURM_PROCID"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world // nodes),
        "GROUP_RANK": given("SLURM_NODEID", "0"),
        "MASTER_ADDR": given("MASTER_ADDR", first_host(given("SLURM_STEP_NODELIST", "127.0.0.1"))),
        "MASTER_PORT": given("MASTER_PORT", str(PORTS[step % len(PORTS)])),
        "TORCHELASTIC_RUN_ID": f"slurm-{environment['SLURM_JOB_ID']}",
    }
    environment.update(stated)


def first_host(hosts: str) -> str:
    """The first host of SLURM's list of hosts, such as gpu[03-05,09],big1."""
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", re.split(r",(?![^\[]*\])", hosts)[0])
