"""Ranks as SLURM's variables state them."""

import pytest

from fewstep.cluster import adopt_slurm, first_host

# What srun sets for the last of six tasks on two nodes (man srun, OUTPUT ENVIRONMENT VARIABLES).
TASK = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "6",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "2",
    "SLURM_NODEID": "1",
}


def test_a_task_of_srun_is_a_rank() -> None:
    environment = dict(TASK)
    adopt_slurm(environment)
    ranks = {name: int(environment[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")}
    assert ranks == {"RANK": 5, "LOCAL_RANK": 2, "WORLD_SIZE": 6, "LOCAL_WORLD_SIZE": 3}
    assert environment["MASTER_ADDR"] == "gpu07"
    first = dict(TASK) | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    adopt_slurm(first)
    assert first["MASTER_PORT"] == environment["MASTER_PORT"]


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "6", "SLURM_PROCID": "0"},  # a script for sbatch, without srun
        TASK | {"SLURM_STEP_NUM_TASKS": "1"},
        TASK | {"RANK": "0", "WORLD_SIZE": "2"},  # torchrun inside a task
    ],
)
def test_other_processes_are_left_as_they_are(environment: dict[str, str]) -> None:
    before = dict(environment)
    adopt_slurm(environment)
    assert environment == before


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("gpu07", "gpu07"),
        ("gpu07,gpu09", "gpu07"),
        ("gpu[07-09,12],big[1-2]", "gpu07"),
        ("rack[2,4]-node[01-03]", "rack2-node01"),
        ("a-b[3-5].site", "a-b3.site"),
    ],
)
def test_the_first_host_of_a_list(hosts: str, first: str) -> None:
    assert first_host(hosts) == first
