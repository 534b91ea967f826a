"""Two processes of one thread each against one process of one thread: statistics, and sampling.

    python benchmarks/scaling.py

Each number of processes does the same work, as a job of the program does it. Starting the processes is not timed.
Exits non-zero below the factor that the project promises.
"""

import argparse
import json
import logging
import os
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import hydra
import torch
from omegaconf import OmegaConf

from fewstep.__main__ import CONF, build
from fewstep.config import Config
from fewstep.data.digits import Digits
from fewstep.launch import launch
from fewstep.modules.sampling import SampledBlocks
from fewstep.modules.sharing import predict_rows
from fewstep.modules.statistics import StatisticsModule, measured_rows
from fewstep.schedule import Schedule
from fewstep.solvers.ddim import Ddim
from fewstep.statistics.denoising_error import DenoisingErrorEstimator
from fewstep.sweep import Outcome

PROMISED = 1.8
IMAGES, TIMESTEPS, SAMPLES, STEPS = 128, 256, 2048, 8
TURNS = 3  # within a job, after one that warms up


def job(config: Config) -> Outcome:
    """The seconds of both kinds of work, the median of some turns."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    denoiser = build(config.model).eval()
    for parameter in denoiser.parameters():  # some layers of a new network are zero
        torch.nn.init.normal_(parameter, std=0.05)
    images, process = Digits().images("train")[:IMAGES], denoiser.process
    indices = torch.linspace(1, process.T, TIMESTEPS).round().long().tolist()
    nodes = torch.linspace(0, process.T, STEPS + 1).round().long().tolist()
    schedule = Schedule.on_grid(nodes, process)

    def statistics() -> None:
        estimator = DenoisingErrorEstimator(
            *(images, None), split="train", levels=17, indices=indices, seed=0, batch_size=IMAGES
        )
        trainer = build(config.trainer)(logger=False, enable_checkpointing=False)
        estimator.collect(process, measured_rows(trainer, StatisticsModule(denoiser, estimator)))

    def sampling() -> None:
        module = SampledBlocks(denoiser, Ddim(), schedule, SAMPLES, 0, (1, 8, 8))
        predict_rows(build(config.trainer)(logger=False, enable_checkpointing=False), module, module.blocks)

    seconds: dict[str, list[float]] = {"statistics": [], "sampling": []}
    for turn in range(TURNS + 1):
        for work in (statistics, sampling):
            started = time.perf_counter()
            work()
            if turn:
                seconds[work.__name__].append(time.perf_counter() - started)
    return Outcome(json.dumps({name: median(of_turns) for name, of_turns in seconds.items()}), None, None)


def configured(outputs: Path) -> Config:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose("config", ["trainer=ddp", "trainer.accelerator=cpu", f"outputs={outputs}"])
    plain: Any = OmegaConf.to_container(composed, resolve=True)
    config = Config(**plain)
    return replace(config, trainer={**config.trainer, "default_root_dir": str(outputs)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    ratios: dict[str, list[float]] = {"statistics": [], "sampling": []}
    with tempfile.TemporaryDirectory() as folder:
        config = configured(Path(folder))
        for _ in range(arguments.rounds):
            one, two = (
                json.loads(launch(job, replace(config, trainer={**config.trainer, **how}), build, {}).told)
                for how in ({"devices": 1, "strategy": "auto"}, {"devices": 2})
            )
            for name, seconds in one.items():
                ratios[name].append(seconds / two[name])
                print(f"{name:12}one process {seconds:6.2f} s, two {two[name]:6.2f} s, {ratios[name][-1]:.2f}×")
    if min(map(median, ratios.values())) < PROMISED:
        raise SystemExit(f"below the promised {PROMISED}")


if __name__ == "__main__":
    main()
